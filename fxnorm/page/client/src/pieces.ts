/** Pieces of streams, brought as they are wanted, the most urgent first; what is no longer wanted is let go. */

import { backOff, mayPass } from "./patience";

export const PIECE_SAMPLES = 65_536; // about 1.5 s: half a megabyte

const AT_ONCE = 3; // browsers have six connections to a server: uploads and events take the others

export type Bring = (stream: string, start: number, count: number, signal: AbortSignal) => Promise<Float32Array>;

export interface Wish {
  stream: string;
  piece: number;
}

export class Pieces {
  /** A piece has come. */
  onArrival: () => void = () => {};
  /** Bringing them fails, for now or for good; null when it works again. */
  onTrouble: (problem: unknown) => void = () => {};

  private readonly here = new Map<string, AudioBuffer>();
  private readonly coming = new Map<string, AbortController>();
  private wishes: Wish[] = [];
  private failures = 0;
  private pausedUntil = 0;

  constructor(
    private readonly bring: Bring,
    private readonly samples: number,
    private readonly sampleRate: number,
  ) {}

  get(stream: string, piece: number): AudioBuffer | undefined {
    return this.here.get(key({ stream, piece }));
  }

  /** These are wanted from now on, in this order, and no others. */
  want(wishes: Wish[]): void {
    this.wishes = wishes;
    const wanted = new Set(wishes.map(key));
    for (const name of this.here.keys()) if (!wanted.has(name)) this.here.delete(name);
    for (const [name, stop] of this.coming) if (!wanted.has(name)) stop.abort();
    this.fetchNext();
  }

  close(): void {
    this.want([]);
  }

  private fetchNext(): void {
    if (performance.now() < this.pausedUntil) return;
    for (const wish of this.wishes) {
      if (this.coming.size >= AT_ONCE) return;
      if (!this.here.has(key(wish)) && !this.coming.has(key(wish))) void this.fetch(wish);
    }
  }

  private async fetch(wish: Wish): Promise<void> {
    const stop = new AbortController();
    const name = key(wish);
    this.coming.set(name, stop);
    const start = wish.piece * PIECE_SAMPLES;
    const count = Math.min(PIECE_SAMPLES, this.samples - start);
    try {
      const values = await this.bring(wish.stream, start, count, stop.signal);
      if (stop.signal.aborted) return;
      this.here.set(name, this.buffer(values, count));
      if (this.failures > 0) this.onTrouble(null);
      this.failures = 0;
      this.onArrival();
    } catch (error) {
      if (stop.signal.aborted) return;
      this.pausedUntil = mayPass(error) ? performance.now() + backOff(this.failures) : Infinity;
      this.failures += 1;
      this.onTrouble(error);
    } finally {
      this.coming.delete(name);
      this.fetchNext();
    }
  }

  /** Silence after the end of a stream that is shorter than the others. */
  private buffer(values: Float32Array, length: number): AudioBuffer {
    const buffer = new AudioBuffer({ numberOfChannels: 2, length, sampleRate: this.sampleRate });
    const half = values.length / 2;
    buffer.copyToChannel(values.subarray(0, half) as Float32Array<ArrayBuffer>, 0);
    buffer.copyToChannel(values.subarray(half) as Float32Array<ArrayBuffer>, 1);
    return buffer;
  }
}

function key({ stream, piece }: Wish): string {
  return `${stream} ${piece}`;
}
