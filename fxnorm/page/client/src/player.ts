/**
 * Plays streams of one length in step and lets some of them be heard: one source, or the parts with their faders.
 *
 * The sound comes in pieces of about a second and a half, each started at its own sample of the audio clock, so that they
 * join without a seam and all streams run in step: changing what is heard is a ramp of gains within a few milliseconds.
 * Only some seconds around the position are held, so that memory does not grow with the song.
 */

import { highest } from "./peaks";
import { type Bring, PIECE_SAMPLES, Pieces, type Wish } from "./pieces";
import { type Loop, type PieceSpan, Timeline } from "./timeline";

const FADE_SECONDS = 0.006;
const LEAD_SECONDS = 0.03; // so that all streams are ready when their common start comes, and a fade before it is over
const AHEAD_SECONDS = 10; // that are held of what is heard
const OTHERS_AHEAD_SECONDS = 4; // and of what may be heard next
const TICK_MILLISECONDS = 100;
const STARTED_MILLISECONDS = 5000; // longer than a browser takes to start its sound
const ENOUGH_SECONDS = 0.4; // of sound to begin with
const LOOK_AHEAD_SECONDS = 0.3; // of what is heard, for peaks: longer than a tick is late
const HOLD_SECONDS = 3; // that a peak is told of, so that it can be read

export interface Song {
  /** Hz */
  sampleRate: number;
  samples: number;
  /** The first ones are brought first. */
  streams: string[];
  bring: Bring;
}

/** Stream -> factor; those that are missing are not heard. */
export type Levels = Readonly<Record<string, number>>;

export class Player {
  /** Called when playing starts, stops or waits. */
  onChange: () => void = () => {};
  /** Called with what keeps the sound from coming, and with null when it comes again. */
  onTrouble: (problem: unknown) => void = () => {};

  private context: AudioContext | null = null;
  private song: Song | null = null;
  private pieces: Pieces | null = null;
  private run: Run | null = null;
  private levels: Levels = {};
  private fullScale = 1;
  private loop: Loop | null = null;
  /** The song's sample that is heard next, while nothing plays. */
  private offset = 0;
  /** Told to play, and not to stop since then. */
  private wanted = false;
  private timer = 0;
  private over = false;

  /** Take this song in place of another, stopped and at its beginning. */
  load(song: Song): void {
    this.unload();
    if (this.context?.sampleRate !== song.sampleRate) {
      void this.context?.close();
      this.context = new AudioContext({ sampleRate: song.sampleRate, latencyHint: "interactive" });
    }
    this.song = song;
    this.pieces = new Pieces(song.bring, song.samples, song.sampleRate);
    this.pieces.onArrival = () => this.tick();
    this.pieces.onTrouble = (problem) => this.onTrouble(problem);
    this.timer = window.setInterval(() => this.tick(), TICK_MILLISECONDS);
    this.tick();
  }

  unload(): void {
    window.clearInterval(this.timer);
    this.stop();
    this.pieces?.close();
    this.pieces = null;
    this.song = null;
    this.loop = null;
    this.offset = 0;
  }

  /** Sound is heard. */
  get playing(): boolean {
    return this.run !== null;
  }

  /** Sound shall be heard, and has not come yet. */
  get waiting(): boolean {
    return this.wanted && this.run === null;
  }

  /** What is heard passes full scale, here or some seconds ago. */
  get passesFullScale(): boolean {
    return this.over;
  }

  /** Seconds. */
  get position(): number {
    return this.song === null ? 0 : this.sample / this.song.sampleRate;
  }

  get seconds(): number {
    return this.song === null ? 0 : this.song.samples / this.song.sampleRate;
  }

  get loopSeconds(): Loop | null {
    const { loop, song } = this;
    return loop && song && { start: loop.start / song.sampleRate, end: loop.end / song.sampleRate };
  }

  /** Browsers let sound start at a click or key only. */
  async play(): Promise<void> {
    if (this.wanted || this.context === null || this.song === null) return;
    this.wanted = true;
    if (this.offset >= this.song.samples) this.offset = this.loop?.start ?? 0;
    this.onChange();
    const { context } = this;
    const silent = window.setTimeout(() => {
      if (this.waiting) this.onTrouble(new Error("The browser cannot start its sound. Has it an output that it can use?"));
    }, STARTED_MILLISECONDS);
    await context.resume(); // for ever, in some browsers, where there is no output
    window.clearTimeout(silent);
    this.onTrouble(null);
    this.tick();
  }

  stop(): void {
    const wasWanted = this.wanted;
    this.wanted = false;
    this.halt();
    if (wasWanted) this.onChange();
    this.tick();
  }

  /** Go on from there, in seconds. */
  seek(position: number): void {
    if (this.song === null) return;
    this.halt();
    this.offset = Math.max(0, Math.min(this.song.samples, Math.round(position * this.song.sampleRate)));
    this.tick();
    this.onChange();
  }

  /** Repeat this part, in seconds, from now on; null: play to the end. */
  setLoop(part: Loop | null): void {
    if (this.song === null) return;
    const sample = (seconds: number) => Math.round(seconds * this.song!.sampleRate);
    this.halt();
    this.loop = part && { start: sample(part.start), end: Math.min(sample(part.end), this.song.samples) };
    if (this.loop && (this.offset < this.loop.start || this.offset >= this.loop.end)) this.offset = this.loop.start;
    this.tick();
    this.onChange();
  }

  /** What is heard from now on, and the value that is told of when it is passed. */
  setLevels(levels: Levels, fullScale: number): void {
    this.levels = levels;
    this.fullScale = fullScale;
    this.run?.ramp(levels);
    this.run?.measureAnew();
    this.tick();
  }

  private get sample(): number {
    return this.run === null ? this.offset : this.run.position;
  }

  private halt(): void {
    if (this.run === null) return;
    this.offset = this.run.position;
    this.run.end();
    this.run = null;
  }

  /** Everything that time and arrivals bring about. */
  private tick(): void {
    const { song, pieces, context } = this;
    if (song === null || pieces === null || context === null) return;
    if (this.run?.isOver) {
      this.halt();
      this.wanted = false;
      this.onChange();
    }
    if (this.run !== null && !this.run.schedule(pieces, song.streams, this.heard)) {
      this.halt(); // what is heard has not come in time: go on from here when it has
      this.onChange();
    }
    if (this.run === null && this.wanted && context.state === "running" && this.isReady) {
      this.run = new Run(context, song.streams, this.levels, new Timeline(this.offset, song.samples, this.loop));
      this.run.schedule(pieces, song.streams, this.heard);
      this.onChange();
    }
    this.run?.measure(pieces, this.levels, this.fullScale);
    const over = this.run?.passesFullScale ?? false;
    if (over !== this.over) {
      this.over = over;
      this.onChange();
    }
    pieces.want(this.wishes());
  }

  private get heard(): string[] {
    return this.song?.streams.filter((stream) => (this.levels[stream] ?? 0) > 0) ?? [];
  }

  private get isReady(): boolean {
    const timeline = new Timeline(this.offset, this.song!.samples, this.loop);
    const needed = [...timeline.pieces(0, ENOUGH_SECONDS * this.song!.sampleRate, PIECE_SAMPLES)];
    return this.heard.every((stream) => needed.every(({ piece }) => this.pieces!.get(stream, piece) !== undefined));
  }

  /** The pieces to hold and to bring: what is heard before what may be, soon before later. */
  private wishes(): Wish[] {
    const { samples, sampleRate, streams } = this.song!;
    const timeline = this.run?.timeline ?? new Timeline(this.offset, samples, this.loop);
    const now = this.run?.elapsed ?? 0;
    const ahead = (seconds: number) => {
      const spans = [...timeline.pieces(now, now + seconds * sampleRate, PIECE_SAMPLES)];
      return [...new Set(spans.map(({ piece }) => piece))];
    };
    const heard = this.heard;
    const others = streams.filter((stream) => !heard.includes(stream));
    const playing = this.wanted ? ahead(AHEAD_SECONDS) : ahead(OTHERS_AHEAD_SECONDS);
    const first = ahead(OTHERS_AHEAD_SECONDS);
    const of = (list: string[], places: number[]) =>
      places.flatMap((piece) => list.map((stream): Wish => ({ stream, piece })));
    const soon = first.slice(0, 2);
    const beginning = timeline.start < PIECE_SAMPLES ? [] : of(heard, [0]);
    return [...of(heard, soon), ...of(others, soon), ...of(heard, playing), ...of(others, first), ...beginning];
  }
}

/** One stretch of playing, from a start to a stop, seek or end. */
class Run {
  private readonly startFrame: number;
  private readonly enter: GainNode;
  private readonly exit: GainNode;
  private readonly outlets = new Map<string, Outlet>();
  private readonly sounding = new Set<AudioBufferSourceNode>();
  private readonly scheduled = new Set<string>();
  private fadedUntil = 1;
  private measuredUntil = 0;
  /** When full scale was passed last, as samples since the start. */
  private overAt = -Infinity;

  constructor(
    private readonly context: AudioContext,
    streams: string[],
    levels: Levels,
    readonly timeline: Timeline,
  ) {
    this.startFrame = Math.ceil((context.currentTime + LEAD_SECONDS) * context.sampleRate);
    this.exit = new GainNode(context, { gain: 1 });
    this.exit.connect(context.destination);
    this.enter = new GainNode(context, { gain: 0 });
    this.enter.connect(this.exit);
    for (const stream of streams) this.outlets.set(stream, new Outlet(context, this.enter, levels[stream] ?? 0));
    const when = this.time(0);
    this.enter.gain.setValueAtTime(0, when);
    this.enter.gain.linearRampToValueAtTime(1, when + FADE_SECONDS);
  }

  /** Samples that were heard since the start. */
  get elapsed(): number {
    const { currentTime, outputLatency, sampleRate } = this.context;
    return Math.max(0, Math.round((currentTime - (outputLatency || 0)) * sampleRate) - this.startFrame);
  }

  get position(): number {
    return this.timeline.position(this.elapsed);
  }

  get isOver(): boolean {
    return this.elapsed >= this.timeline.length;
  }

  /** Start what has come of what is due. False: something that is heard is missing. */
  schedule(pieces: Pieces, streams: string[], heard: string[]): boolean {
    const { sampleRate } = this.context;
    const soon = this.elapsedFrames + Math.ceil(LEAD_SECONDS * sampleRate);
    const spans = [...this.timeline.pieces(this.elapsedFrames, soon + AHEAD_SECONDS * sampleRate, PIECE_SAMPLES)];
    let complete = true;
    for (const span of spans) {
      for (const stream of streams) {
        const name = `${stream} ${span.at}`;
        if (this.scheduled.has(name)) continue;
        const buffer = pieces.get(stream, span.piece);
        if (buffer !== undefined) {
          this.scheduled.add(name);
          this.start(stream, buffer, span);
        } else if (span.at <= soon && heard.includes(stream)) {
          complete = false;
        }
      }
    }
    this.fadeJumps(soon + AHEAD_SECONDS * sampleRate);
    return complete;
  }

  ramp(levels: Levels): void {
    for (const [stream, outlet] of this.outlets) outlet.ramp(levels[stream] ?? 0);
  }

  /** Forget what was measured: other levels are heard. */
  measureAnew(): void {
    this.measuredUntil = this.elapsed;
    this.overAt = -Infinity;
  }

  /** Look at the peaks of what is heard until a moment from now. */
  measure(pieces: Pieces, levels: Levels, fullScale: number): void {
    const until = this.elapsed + LOOK_AHEAD_SECONDS * this.context.sampleRate;
    const from = Math.max(this.measuredUntil, this.elapsed);
    const heard = Object.entries(levels).filter(([, level]) => level > 0);
    for (const { at, from: sample, count, piece } of this.timeline.pieces(from, until, PIECE_SAMPLES)) {
      const parts = heard.flatMap(([stream, level]) => {
        const buffer = pieces.get(stream, piece);
        return buffer === undefined ? [] : [{ buffer, level }];
      });
      const skipped = Math.max(0, from - at);
      const length = Math.min(count, Math.ceil(until - at)) - skipped;
      const first = sample + skipped - piece * PIECE_SAMPLES;
      if (length > 0 && highest(parts, first, length) > fullScale) this.overAt = at + skipped + length;
    }
    this.measuredUntil = Math.max(this.measuredUntil, until);
  }

  get passesFullScale(): boolean {
    return this.elapsed < this.overAt + HOLD_SECONDS * this.context.sampleRate;
  }

  /** Fade out and let go. */
  end(): void {
    const now = this.context.currentTime;
    this.exit.gain.setValueAtTime(1, now);
    this.exit.gain.linearRampToValueAtTime(0, now + FADE_SECONDS);
    for (const source of this.sounding) source.stop(now + FADE_SECONDS);
    window.setTimeout(() => this.exit.disconnect(), 1000 * (FADE_SECONDS + LEAD_SECONDS));
  }

  /** The audio clock's, without what the loudspeaker is behind it. */
  private get elapsedFrames(): number {
    return Math.round(this.context.currentTime * this.context.sampleRate) - this.startFrame;
  }

  private time(elapsed: number): number {
    return (this.startFrame + elapsed) / this.context.sampleRate;
  }

  /** A piece that comes late begins with what is due when it can sound. */
  private start(stream: string, buffer: AudioBuffer, span: PieceSpan): void {
    const { sampleRate } = this.context;
    const earliest = this.elapsedFrames + Math.ceil((LEAD_SECONDS / 2) * sampleRate);
    const skipped = Math.max(0, earliest - span.at);
    if (skipped >= span.count) return;
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.outlets.get(stream)!.node);
    const first = span.from + skipped - span.piece * PIECE_SAMPLES;
    source.start(this.time(span.at + skipped), first / sampleRate, (span.count - skipped) / sampleRate);
    this.sounding.add(source);
    source.addEventListener("ended", () => {
      this.sounding.delete(source);
      source.disconnect();
    });
  }

  /** Where a repeated part begins again the wave would jump. */
  private fadeJumps(until: number): void {
    for (const jump of this.timeline.jumps(this.fadedUntil, until)) {
      const when = this.time(jump);
      this.enter.gain.setValueAtTime(1, when - FADE_SECONDS);
      this.enter.gain.linearRampToValueAtTime(0, when);
      this.enter.gain.linearRampToValueAtTime(1, when + FADE_SECONDS);
      this.fadedUntil = jump + 1;
    }
  }
}

/** A stream's gain, which knows how far its ramp has come; not all browsers say. */
class Outlet {
  readonly node: GainNode;
  private from: number;
  private to: number;
  private since = 0;

  constructor(
    private readonly context: AudioContext,
    output: AudioNode,
    level: number,
  ) {
    this.node = new GainNode(context, { gain: level });
    this.node.connect(output);
    this.from = this.to = level;
  }

  ramp(level: number): void {
    if (level === this.to) return;
    const now = this.context.currentTime;
    const come = Math.min(1, (now - this.since) / FADE_SECONDS);
    this.from += (this.to - this.from) * come;
    this.to = level;
    this.since = now;
    const { gain } = this.node;
    gain.cancelScheduledValues(now);
    gain.setValueAtTime(this.from, now);
    gain.linearRampToValueAtTime(level, now + FADE_SECONDS);
  }
}
