/** The server's faces: what it is asked, what it answers, and how it says no. All paths are below /api. */

export const GROUPS = ["vocals", "bass", "drums", "other"] as const;
export type Group = (typeof GROUPS)[number];
export type Format = "wav" | "flac" | "mp3";

export interface PageFacts {
  mixer: string;
  /** The served model's address, if the page stands before one: then there are no parts. */
  endpoint: string | null;
  has_parts: boolean;
  keep_hours: number;
  limits: {
    files: number;
    file_bytes: number;
    session_bytes: number;
    seconds: number;
    sessions: number;
    chunk_bytes: number;
  };
  suffixes: string[];
  bits: Record<Format, string[]>;
  sample_rates: number[];
  most_alternatives: number;
}

export interface SessionName {
  id: string;
  name: string;
  revision: number;
}

export interface SessionFile {
  id: string;
  /** The path within the folder that was dropped. */
  name: string;
  bytes: number;
  received: number;
  kind: "track" | "reference" | "zip" | "table" | "other";
  problem: string | null;
  listened: boolean;
  /** From here on: once it was listened to. */
  channels?: number;
  sample_rate?: number;
  seconds?: number;
  /** null: it never passes the gate that loudness is measured above. */
  loudness_lufs?: number | null;
  peak_dbfs?: number;
}

export interface Track {
  file: string;
  group: Group;
  by: "guess" | "heard" | "word" | "hand";
  source: string;
  pair: string | null;
  side: "left" | "right" | null;
  gain_db: number;
  use: boolean;
  why: string;
}

export interface Table {
  balance: "loudness" | "as_is";
  mixture: string | null;
  tracks: Track[];
}

export interface MixOptions {
  dry: boolean;
  keep: "panning" | "dynamics" | null;
  seed: number | null;
  target_loudness: number | null;
  true_peak: number;
  sample_rate: number;
  alternatives: number;
  reference: string | null;
}

export interface Source {
  id: string;
  label: string;
  loudness_lufs: number | null;
  /** Brings all sources to one loudness. */
  gain_db: number;
}

export interface Mix {
  id: string;
  made: string;
  name: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled";
  position: number;
  phase: string;
  fraction: number;
  seconds_left: number | null;
  problem: string | null;
  options: MixOptions;
  /** The table was changed since. */
  outdated: boolean;
  warnings: string[];
  sentence: string;
  sample_rate: number;
  samples: number;
  parts: Group[];
  sources: Source[];
}

export interface SessionState extends SessionName {
  expires: string;
  files: SessionFile[];
  listening: { state: "queued" | "running"; position: number; fraction: number } | null;
  problems: Problem[];
  table: Table | null;
  mixes: Mix[];
}

/** File -> its peaks from 0 to 255. */
export type Waveforms = Record<string, { peaks: number[] }>;

type Values = (number | null)[];

export interface SourceFigures {
  spectrum: { hertz: number[]; db: Values };
  stereo: { hertz: number[]; side_to_middle_db: Values; balance_db: Values };
  loudness: { seconds: number[]; lufs: Values };
  waveform: number[];
  loudness_lufs: number | null;
  true_peak_dbtp: number | null;
}

export type Figures = Record<string, SourceFigures>;

export interface ExportRequest {
  what: "mix" | "parts" | "daw" | "tracks" | "description" | "all";
  format: Format;
  bits: string | null;
  sample_rate: number | null;
  gains_db: Partial<Record<Group, number>>;
  muted: Group[];
  solo: Group[];
  target_loudness: number | null;
  true_peak: number | null;
  source: string;
}

export interface Export {
  id: string;
  name: string;
  bytes: number;
  sentence: string;
}

export interface Problem {
  file: string | null;
  text: string;
}

/** The server said no, and why. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly file: string | null = null,
    readonly problems: Problem[] = [],
    /** What the server has of a file whose next piece did not fit. */
    readonly received: number | null = null,
  ) {
    super(message);
  }
}

/** No answer came: the connection is lost, or the server is. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached. Try again in a moment.");
  }
}

async function answer(path: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`/api${path}`, options);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (response.ok) return response;
  const told = (await response.json().catch(() => ({}))) as Partial<Refusal> & { error?: string };
  const words = told.error ?? `The server answered with status ${response.status}.`;
  throw new Refusal(words, response.status, told.file ?? null, told.problems ?? [], told.received ?? null);
}

async function get<Answer>(path: string): Promise<Answer> {
  return (await (await answer(path)).json()) as Answer;
}

async function change<Answer>(method: string, path: string, body: unknown = {}, keepalive = false): Promise<Answer> {
  const headers = { "Content-Type": "application/json" };
  const response = await answer(path, { method, headers, body: JSON.stringify(body), keepalive });
  return (response.status === 204 ? null : await response.json()) as Answer;
}

export const pageFacts = () => get<PageFacts>("/page");
export const sessionNames = async () => (await get<{ sessions: SessionName[] }>("/sessions")).sessions;
export const createSession = (name: string) => change<SessionState>("POST", "/sessions", { name });

/** One session of this user. */
export class SessionApi {
  private readonly path: string;

  constructor(readonly id: string) {
    this.path = `/sessions/${encodeURIComponent(id)}`;
  }

  state = () => get<SessionState>(this.path);
  events = () => new EventSource(`/api${this.path}/events`);
  rename = (name: string) => change<SessionState>("PATCH", this.path, { name });
  remove = () => change<null>("DELETE", this.path);

  addFile = (name: string, bytes: number, reference: boolean) =>
    change<{ file: string; received: number }>("POST", `${this.path}/files`, { name, bytes, reference });

  async putContent(file: string, offset: number, content: Blob, signal: AbortSignal): Promise<number> {
    const options = { method: "PUT", headers: { "Content-Type": "application/octet-stream" }, body: content, signal };
    const response = await answer(`${this.path}/files/${file}/content?offset=${offset}`, options);
    return ((await response.json()) as { received: number }).received;
  }

  removeFile = (file: string) => change<null>("DELETE", `${this.path}/files/${file}`);
  listen = () => change<SessionState>("POST", `${this.path}/listen`);
  waveforms = () => get<Waveforms>(`${this.path}/waveforms`);

  /** Goes on when the page is left meanwhile. */
  putTable = (table: Pick<Table, "balance" | "tracks">) =>
    change<SessionState>("PUT", `${this.path}/table`, plainTable(table), true);

  mix = (options: MixOptions) => change<SessionState>("POST", `${this.path}/mixes`, options);
  cancelMix = (mix: string) => change<SessionState>("POST", `${this.path}/mixes/${mix}/cancel`);
  removeMix = (mix: string) => change<null>("DELETE", `${this.path}/mixes/${mix}`);
  figures = async (mix: string) => (await get<{ sources: Figures }>(`${this.path}/mixes/${mix}/figures`)).sources;

  /** Left samples, then right ones: fewer than asked for at the source's end. */
  async audio(mix: string, source: string, start: number, count: number, signal: AbortSignal): Promise<Float32Array> {
    const query = new URLSearchParams({ start: String(start), count: String(count) });
    const response = await answer(`${this.path}/mixes/${mix}/audio/${source}?${query}`, { signal });
    return new Float32Array(await response.arrayBuffer()); // little endian, as all machines with browsers are
  }

  export = (mix: string, request: ExportRequest) => change<Export>("POST", `${this.path}/mixes/${mix}/exports`, request);
  exportAddress = (mix: string, id: string) => `/api${this.path}/mixes/${mix}/exports/${id}`;
}

function plainTable({ balance, tracks }: Pick<Table, "balance" | "tracks">) {
  const rows = tracks.map(({ file, group, by, source, pair, side, gain_db, use }) => ({
    file,
    group,
    by,
    source,
    pair,
    side,
    gain_db,
    use,
  }));
  return { balance, tracks: rows };
}
