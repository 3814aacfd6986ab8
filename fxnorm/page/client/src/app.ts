/** What the page shows: this user's sessions, and which of them is open. */

import { createSession, type PageFacts, pageFacts, type SessionName, sessionNames } from "./api";
import { filesOf, sortChosen } from "./chosen";
import { keep, kept } from "./keep";
import { patiently } from "./patience";
import { Session } from "./session";
import { count, list, reason } from "./words";

const SHOWN_NAMES = 3;

export class App {
  facts: PageFacts | null = null;
  /** In the order of their tabs. */
  names: SessionName[] = [];
  /** The open one; null is the tab on which a new one begins. */
  session: Session | null = null;
  problem: string | null = null;
  /** What happened, for everyone to read. */
  notice: string | null = null;
  /** The server does not answer at all. */
  unreachable = false;
  onChange: () => void = () => {};

  private readonly sessions = new Map<string, Session>();

  async start(): Promise<void> {
    const never = new AbortController().signal;
    const waiting = () => {
      this.unreachable = true;
      this.onChange();
    };
    [this.facts, this.names] = await patiently(() => Promise.all([pageFacts(), sessionNames()]), never, waiting);
    this.unreachable = false;
    const last = kept<string | null>("session", null);
    this.show(this.names.find(({ id }) => id === last)?.id ?? this.names[0]?.id ?? null);
  }

  get connected(): boolean {
    return !this.unreachable && (this.session?.connected ?? true);
  }

  show(id: string | null): void {
    this.session?.rest();
    this.session = id === null ? null : this.opened(id);
    this.session?.open();
    keep("session", id);
    this.onChange();
  }

  /** Whether something is being sent, so that leaving would interrupt it. */
  get isSending(): boolean {
    return [...this.sessions.values()].some(({ uploads }) => uploads.active.length > 0);
  }

  async rename(name: string): Promise<void> {
    const { session } = this;
    if (session === null || name.trim() === "" || name === session.state?.name) return;
    await session.attempt(async () => session.accept(await session.api.rename(name.trim())));
  }

  async remove(): Promise<void> {
    const { session } = this;
    if (session === null) return;
    const removed = await session.attempt(async () => (await session.api.remove(), true));
    if (removed || session.gone) this.dismiss(session);
  }

  /** Take a session off the page that the server no longer has. */
  dismiss(session: Session): void {
    session.close();
    session.forget();
    this.sessions.delete(session.id);
    this.names = this.names.filter(({ id }) => id !== session.id);
    this.show(this.names[0]?.id ?? null);
  }

  /** Files were dropped or chosen. Where no session is open, they begin one. */
  async take(event: Event, reference = false): Promise<void> {
    this.problem = this.notice = null;
    try {
      const files = await filesOf(event);
      if (files.length === 0 || this.facts === null) return;
      const chosen = files.map((file) => ({ path: file.webkitRelativePath || file.relativePath || file.name, file }));
      const sorted = sortChosen(chosen, this.facts, this.session?.state?.files ?? []);
      this.notice = sorted.passedOver.length > 0 ? passedOver(sorted.passedOver) : null;
      if (sorted.taken.length === 0 && sorted.refused.length === 0) {
        this.notice ??= "These files are here already.";
        return;
      }
      const session = this.session ?? (await this.begin(sorted.folder ?? nameOf(chosen)));
      session.upload(sorted.taken, reference);
      for (const { name, problem } of sorted.refused) session.uploads.refuse(name, problem);
    } catch (error) {
      this.problem = reason(error);
    } finally {
      this.onChange();
    }
  }

  private async begin(name: string): Promise<Session> {
    const state = await createSession(name);
    this.names.push({ id: state.id, name: state.name, revision: state.revision });
    const session = this.opened(state.id);
    session.accept(state);
    this.show(state.id);
    return session;
  }

  private opened(id: string): Session {
    const open = this.sessions.get(id);
    if (open !== undefined) return open;
    const session = new Session(id, this.facts!.limits.chunk_bytes);
    session.onChange = () => {
      const { state } = session;
      if (state !== null) this.names = this.names.map((each) => (each.id === id ? { ...each, name: state.name } : each));
      this.onChange();
    };
    this.sessions.set(id, session);
    return session;
  }
}

function nameOf(chosen: { file: File }[]): string {
  const zip = chosen.length === 1 && /^(.+)\.zip$/i.exec(chosen[0]!.file.name);
  return zip ? zip[1]! : "New session";
}

function passedOver(names: string[]): string {
  const shown = names.slice(0, SHOWN_NAMES);
  const more = names.length - shown.length;
  const words = list(more > 0 ? [...shown, `${more} more`] : shown);
  return `${count(names.length, "file")} passed over, no audio: ${words}.`;
}
