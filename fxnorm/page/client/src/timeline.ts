/** Which samples of a song are heard when, from a start on, with or without a part that is repeated. All in samples. */

export interface Loop {
  start: number;
  end: number;
}

/** A run of samples without a jump: ``at``, since the start, the song's sample ``from`` is heard, and those after it. */
export interface Span {
  at: number;
  from: number;
  count: number;
}

/** A span within one piece of the song. */
export interface PieceSpan extends Span {
  piece: number;
}

export class Timeline {
  private readonly first: number;

  /**
   * @param start the song's sample that is heard first
   * @param total samples of the song
   * @param loop repeated for ever, once its end is reached
   */
  constructor(
    readonly start: number,
    private readonly total: number,
    private readonly loop: Loop | null,
  ) {
    this.first = (loop !== null && start < loop.end ? loop.end : total) - start;
  }

  /** Samples until the end; there is none where a part is repeated. */
  get length(): number {
    return this.repeats ? Infinity : this.first;
  }

  /** The song's sample that is heard after so many. */
  position(elapsed: number): number {
    const after = elapsed - this.first;
    if (after < 0) return this.start + Math.max(0, elapsed);
    return this.repeats ? this.loop!.start + (after % this.loopLength) : this.total;
  }

  /** Where the song jumps between these instants, as instants. */
  *jumps(from: number, until: number): Generator<number> {
    if (!this.repeats) return;
    const skipped = Math.max(0, Math.ceil((from - this.first) / this.loopLength));
    for (let at = this.first + skipped * this.loopLength; at < until; at += this.loopLength) yield at;
  }

  /** What is heard between these instants, cut where the song jumps and where its pieces end. */
  *pieces(from: number, until: number, pieceSamples: number): Generator<PieceSpan> {
    for (const { at, from: sample, count } of this.spans(Math.max(0, from), until)) {
      for (let done = 0; done < count; ) {
        const piece = Math.floor((sample + done) / pieceSamples);
        const here = Math.min(count - done, (piece + 1) * pieceSamples - (sample + done));
        if (at + done + here > from && at + done < until) yield { at: at + done, from: sample + done, count: here, piece };
        done += here;
      }
    }
  }

  private *spans(from: number, until: number): Generator<Span> {
    if (from < this.first) yield { at: 0, from: this.start, count: this.first };
    if (!this.repeats) return;
    const skipped = Math.max(0, Math.floor((from - this.first) / this.loopLength));
    for (let at = this.first + skipped * this.loopLength; at < until; at += this.loopLength) {
      yield { at, from: this.loop!.start, count: this.loopLength };
    }
  }

  private get repeats(): boolean {
    return this.loop !== null && this.start < this.loop.end;
  }

  private get loopLength(): number {
    return this.loop!.end - this.loop!.start;
  }
}
