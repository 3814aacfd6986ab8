/** One session as the page knows it: the server's state, and what the person did that the server does not have yet. */

import { type Problem, Refusal, SessionApi, type SessionFile, type SessionState, type Table, type Waveforms } from "./api";
import { type Chosen } from "./chosen";
import { forget, keep, kept } from "./keep";
import { patiently } from "./patience";
import { steadyOrder } from "./tracks";
import { Uploads } from "./upload";
import { reason } from "./words";

export class Session {
  readonly api: SessionApi;
  readonly uploads: Uploads;
  state: SessionState | null = null;
  waveforms: Waveforms = {};
  /** Files in the order of the table's rows. */
  order: string[] = [];
  /** Files whose details are shown in the table. */
  readonly unfolded = new Set<string>();
  /** What the server found wrong with the table as it was edited. */
  tableProblems: Problem[] = [];
  /** What went wrong otherwise, in words, until the next attempt. */
  problem: string | null = null;
  /** The server has removed it. */
  gone = false;
  /** Called when anything of it changes. */
  onChange: () => void = () => {};

  private hears = true;
  private events: EventSource | null = null;
  private readonly closed = new AbortController();
  /** The table as the person left it, until the server has it. */
  private draft: Table | null;
  private saving: Promise<void> | null = null;
  /** Files came or went that the server has not listened to the session with. */
  private isChanged = false;
  /** The tracks that it was last asked to listen to for the first time. */
  private askedFor = "";
  /** Asking it to, just now. */
  private isAsking = false;
  private waveformsOf = "";

  constructor(
    readonly id: string,
    chunkBytes: number,
  ) {
    this.api = new SessionApi(id);
    this.uploads = new Uploads(this.api, chunkBytes);
    this.uploads.onChange = () => this.onChange();
    this.uploads.onEnd = (tracks) => void this.received(tracks);
    this.draft = kept<Table | null>(`${id}/table`, null);
  }

  open(): void {
    const events = this.api.events();
    this.events = events;
    events.addEventListener("open", () => this.setConnected(true));
    events.addEventListener("state", (event) => this.accept(JSON.parse((event as MessageEvent<string>).data)));
    events.addEventListener("gone", () => this.vanish());
    events.addEventListener("error", () => {
      events.close();
      if (this.events === events) void this.reconnect();
    });
  }

  /** Listen to the server no more; uploads go on. */
  rest(): void {
    this.events?.close();
    this.events = null;
  }

  close(): void {
    this.rest();
    this.closed.abort();
    this.uploads.stop();
    this.onChange = () => {};
  }

  /** Forget what the browser keeps of it. */
  forget(): void {
    forget(`${this.id}/`);
  }

  get connected(): boolean {
    return this.hears && !this.uploads.active.some(({ state }) => state === "retrying");
  }

  get table(): Table | null {
    const table = this.state?.table ?? null;
    if (table === null || this.draft === null) return table;
    const edited = new Map(this.draft.tracks.map((track) => [track.file, track]));
    return { ...table, balance: this.draft.balance, tracks: table.tracks.map((track) => edited.get(track.file) ?? track) };
  }

  file(id: string): SessionFile | undefined {
    return this.state?.files.find((file) => file.id === id);
  }

  get references(): SessionFile[] {
    return this.state?.files.filter(({ kind, received, bytes }) => kind === "reference" && received === bytes) ?? [];
  }

  /** Files that are to be mixed, and cannot be. */
  get unreadable(): SessionFile[] {
    const used = new Set(this.table?.tracks.filter(({ use }) => use).map(({ file }) => file));
    return this.state?.files.filter(({ id, problem }) => problem !== null && used.has(id)) ?? [];
  }

  /** Files that the server has in part, and that nobody sends. */
  get incomplete(): SessionFile[] {
    const sent = new Set(this.uploads.all.filter(({ state }) => state !== "failed").map(({ name }) => name));
    return this.state?.files.filter(({ name, received, bytes }) => received < bytes && !sent.has(name)) ?? [];
  }

  unfold(file: string): void {
    if (!this.unfolded.delete(file)) this.unfolded.add(file);
    this.onChange();
  }

  /** Change the table, now on the page and soon on the server. */
  edit(change: (table: Table) => Table): void {
    const table = this.table;
    if (table === null) return;
    this.draft = change(table);
    keep(`${this.id}/table`, this.draft);
    this.tableProblems = [];
    void this.save();
    this.onChange();
  }

  /** When the server has the table as it is on the page. Rejects with what the server has against it. */
  async saved(): Promise<void> {
    await this.save();
    if (this.tableProblems.length > 0) throw new Error("The table of tracks has to be corrected first.");
  }

  upload(chosen: Chosen[], reference = false): void {
    this.problem = null;
    this.uploads.add(chosen, reference);
  }

  removeFiles(ids: string[]): Promise<void> {
    return this.attempt(async () => {
      const tracks = ids.some((id) => this.file(id)?.kind !== "reference");
      for (const id of ids) await this.api.removeFile(id);
      this.isChanged ||= tracks;
      this.accept(await this.api.state());
    });
  }

  /** Do this, and show why it was not possible if it was not. Gives what it gave, or undefined. */
  async attempt<Result>(act: () => Promise<Result>): Promise<Result | undefined> {
    this.problem = null;
    try {
      return await act();
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) await this.lookWhetherGone();
      this.problem = reason(error);
      return undefined;
    } finally {
      this.onChange();
    }
  }

  accept(state: SessionState): void {
    if (this.closed.signal.aborted || (this.state !== null && state.revision < this.state.revision)) return;
    this.state = state;
    if (state.table !== null) {
      this.order = steadyOrder(this.order, state.table.tracks);
      if (this.draft !== null && this.tableProblems.length === 0) void this.save();
    }
    void this.bringWaveforms();
    this.listenIfComplete();
    this.onChange();
  }

  /** All that was under way is sent. */
  private async received(tracks: boolean): Promise<void> {
    this.isChanged ||= tracks;
    try {
      this.accept(await patiently(this.api.state, this.closed.signal));
    } catch {
      // what follows, follows the next state
    }
  }

  /** Whether the tracks are sorted, or about to be. */
  get isListening(): boolean {
    return this.isAsking || (this.state !== null && this.state.listening !== null);
  }

  /** Once all files are there, have the server sort them. */
  private listenIfComplete(): void {
    const { state } = this;
    if (state === null || this.isListening || this.uploads.active.length > 0 || this.incomplete.length > 0) return;
    const tracks = state.files.filter(({ kind }) => kind === "track");
    const unheard = tracks.filter(({ listened, problem }) => !listened && problem === null).map(({ id }) => id).join();
    const isNew = unheard !== "" && unheard !== this.askedFor; // else it has listened, and could make nothing of them
    if (tracks.length === 0 || !(this.isChanged || isNew)) return;
    this.isChanged = false;
    this.askedFor = unheard;
    this.isAsking = true;
    void this.attempt(async () => this.accept(await this.api.listen())).finally(() => {
      this.isAsking = false;
      this.onChange();
    });
  }

  private async bringWaveforms(): Promise<void> {
    const listened = this.state!.files.filter(({ listened }) => listened).map(({ id }) => id).join();
    if (listened === this.waveformsOf || listened === "") return;
    this.waveformsOf = listened;
    try {
      this.waveforms = await patiently(this.api.waveforms, this.closed.signal);
    } catch {
      this.waveformsOf = ""; // a row without a picture is a row still
    }
    this.onChange();
  }

  private save(): Promise<void> {
    this.saving ??= this.saveAll().finally(() => {
      this.saving = null;
    });
    return this.saving;
  }

  private async saveAll(): Promise<void> {
    for (let sent = this.draft; sent !== null && this.state?.table; sent = this.draft) {
      const whole = this.table!;
      try {
        const state = await patiently(() => this.api.putTable(whole), this.closed.signal);
        if (this.draft === sent) this.settle();
        this.accept(state);
      } catch (error) {
        if (this.closed.signal.aborted) return;
        if (this.draft !== sent) continue;
        if (!(error instanceof Refusal) || error.status !== 422) this.settle();
        const problems = error instanceof Refusal ? error.problems : [];
        this.tableProblems = problems.length > 0 ? problems : [{ file: null, text: reason(error) }];
        this.onChange();
        return;
      }
    }
  }

  private settle(): void {
    this.draft = null;
    forget(`${this.id}/table`);
  }

  private async reconnect(): Promise<void> {
    this.setConnected(false);
    try {
      const state = await patiently(this.api.state, this.closed.signal);
      if (this.events === null) return;
      this.accept(state);
      this.open();
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) this.vanish();
    }
  }

  private async lookWhetherGone(): Promise<void> {
    try {
      await this.api.state();
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) this.vanish();
    }
  }

  private vanish(): void {
    this.rest();
    this.uploads.stop();
    this.gone = true;
    this.onChange();
  }

  private setConnected(connected: boolean): void {
    if (connected === this.hears) return;
    this.hears = connected;
    this.onChange();
  }
}
