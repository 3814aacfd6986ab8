/** Brings files to the server in pieces, two at a time, and goes on where it was when the connection comes back. */

import { Refusal, type SessionApi } from "./api";
import type { Chosen } from "./chosen";
import { patiently } from "./patience";
import { reason } from "./words";

const AT_ONCE = 2;
const MOST_MISSES = 5; // pieces in a row that the server did not expect

export interface Upload extends Chosen {
  reference: boolean;
  state: "waiting" | "sending" | "retrying" | "done" | "failed";
  id: string | null;
  sent: number;
  problem: string | null;
  stopped: AbortController;
}

export class Uploads {
  all: Upload[] = [];
  /** Called when anything of them changes. */
  onChange: () => void = () => {};
  /** Called when nothing is under way any more; whether any of it was a track. */
  onEnd: (tracks: boolean) => void = () => {};

  private since = 0;
  private bytes = 0;

  constructor(
    private readonly api: SessionApi,
    private readonly chunkBytes: number,
  ) {}

  get active(): Upload[] {
    return this.all.filter(({ state }) => state === "waiting" || state === "sending" || state === "retrying");
  }

  get failed(): Upload[] {
    return this.all.filter(({ state }) => state === "failed");
  }

  /** Bytes sent, and bytes in all, of what is under way. */
  get progress(): { sent: number; total: number; secondsLeft: number | null } {
    const counted = this.all.filter(({ state }) => state !== "failed");
    const sent = counted.reduce((sum, each) => sum + each.sent, 0);
    const total = counted.reduce((sum, each) => sum + each.file.size, 0);
    const seconds = (performance.now() - this.since) / 1000;
    const rate = seconds > 1 ? this.bytes / seconds : 0;
    return { sent, total, secondsLeft: rate > 0 ? (total - sent) / rate : null };
  }

  add(chosen: Chosen[], reference = false): void {
    const active = this.active;
    if (active.length === 0) {
      this.all = [];
      this.since = performance.now();
      this.bytes = 0;
    }
    const names = new Set(active.map(({ name }) => name));
    this.all = this.all.filter(({ state, name }) => state !== "failed" || !chosen.some((each) => each.name === name));
    for (const { name, file } of chosen) {
      if (names.has(name)) continue;
      const state = "waiting" as const;
      this.all.push({ name, file, reference, state, id: null, sent: 0, problem: null, stopped: new AbortController() });
    }
    this.go();
  }

  /** Say of a file that is not sent at all why it is not. */
  refuse(name: string, problem: string): void {
    const file = new File([], name);
    const stopped = new AbortController();
    this.all.push({ name, file, reference: false, state: "failed", id: null, sent: 0, problem, stopped });
    this.onChange();
  }

  /** Stop this one and forget it; what the server has of it stays there. */
  drop(upload: Upload): void {
    upload.stopped.abort();
    this.all = this.all.filter((each) => each !== upload);
    this.go();
  }

  stop(): void {
    this.all.forEach(({ stopped }) => stopped.abort());
    this.all = [];
  }

  private go(): void {
    const free = AT_ONCE - this.all.filter(({ state }) => state === "sending" || state === "retrying").length;
    for (const upload of this.all.filter(({ state }) => state === "waiting").slice(0, free)) void this.send(upload);
    this.onChange();
    const done = this.all.filter(({ state }) => state === "done");
    if (done.length > 0 && this.active.length === 0) this.onEnd(done.some(({ reference }) => !reference));
  }

  private async send(upload: Upload): Promise<void> {
    upload.state = "sending";
    try {
      const { signal } = upload.stopped;
      const retrying = () => this.set(upload, "retrying");
      const begun = await patiently(() => this.api.addFile(upload.name, upload.file.size, upload.reference), signal, retrying);
      upload.id = begun.file;
      upload.sent = begun.received;
      await this.sendPieces(upload, retrying);
      upload.state = "done";
    } catch (error) {
      if (upload.stopped.signal.aborted) return;
      upload.state = "failed";
      upload.problem = reason(error);
    }
    this.go();
  }

  private async sendPieces(upload: Upload, retrying: () => void): Promise<void> {
    const { file, stopped } = upload;
    let misses = 0;
    while (upload.sent < file.size) {
      const offset = upload.sent;
      const piece = file.slice(offset, offset + this.chunkBytes);
      await piece.slice(0, 1).arrayBuffer().catch(() => {
        throw new Error("The file can no longer be read from the disk: choose it again.");
      });
      try {
        const put = () => this.api.putContent(upload.id!, offset, piece, stopped.signal);
        upload.sent = await patiently(put, stopped.signal, retrying);
        misses = 0;
      } catch (error) {
        if (!(error instanceof Refusal) || error.received === null || ++misses > MOST_MISSES) throw error;
        upload.sent = error.received;
      }
      this.bytes += Math.max(0, upload.sent - offset);
      this.set(upload, "sending");
    }
  }

  private set(upload: Upload, state: Upload["state"]): void {
    if (upload.stopped.signal.aborted) return;
    upload.state = state;
    this.onChange();
  }
}
