/**
 * Plays several sounds of one length at once and lets one of them be heard.
 *
 * All sources are started by the same instant of the audio clock and run on together, so switching is to the sample:
 * a crossfade of a few milliseconds, without a gap and without a seek.
 */

const FADE_SECONDS = 0.008;
const LEAD_SECONDS = 0.03; // so that all sources are ready when their common start comes

interface Track {
  buffer: AudioBuffer;
  gain: GainNode;
  source: AudioBufferSourceNode | null;
}

export class Player {
  /** Called when playing starts or stops and when another sound is heard. */
  onChange: () => void = () => {};

  private readonly context: AudioContext;
  private tracks = new Map<string, Track>();
  private heard: string | null = null;
  private loop = { start: 0, end: 0 };
  private offset = 0;
  /** The audio clock's time at which ``offset`` is heard; null while stopped. */
  private startedAt: number | null = null;
  /** Whether it was told to play, and not to stop since then. */
  private wanted = false;

  constructor(sampleRate: number) {
    this.context = new AudioContext({ sampleRate, latencyHint: "interactive" });
  }

  decode(content: ArrayBuffer): Promise<AudioBuffer> {
    return this.context.decodeAudioData(content);
  }

  /** Take these sounds in place of others, stopped and at their beginning. */
  load(buffers: Map<string, AudioBuffer>): void {
    this.stop();
    for (const track of this.tracks.values()) track.gain.disconnect();
    this.tracks = new Map();
    for (const [name, buffer] of buffers) {
      const gain = new GainNode(this.context, { gain: 0 });
      gain.connect(this.context.destination);
      this.tracks.set(name, { buffer, gain, source: null });
    }
    this.heard = null;
    this.offset = 0;
    this.loop = { start: 0, end: this.seconds };
    this.onChange();
  }

  get seconds(): number {
    return Math.min(...[...this.tracks.values()].map((track) => track.buffer.duration));
  }

  get playing(): boolean {
    return this.startedAt !== null;
  }

  get selected(): string | null {
    return this.heard;
  }

  get loopRegion(): { start: number; end: number } {
    return { ...this.loop };
  }

  /** What is heard now, in seconds. */
  get position(): number {
    if (this.startedAt === null) return this.offset;
    const elapsed = Math.max(0, this.context.currentTime - (this.context.outputLatency || 0) - this.startedAt);
    const position = this.offset + elapsed;
    const { start, end } = this.loop;
    return position < end ? position : start + ((position - start) % (end - start));
  }

  /** Let this sound be heard from now on, at the same place. */
  select(name: string): void {
    if (!this.tracks.has(name) || name === this.heard) return;
    this.heard = name;
    const now = this.context.currentTime;
    for (const [each, { gain }] of this.tracks) {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(each === name ? 1 : 0, now + FADE_SECONDS);
    }
    this.onChange();
  }

  /** Browsers let sound start at a click or key only. */
  async play(): Promise<void> {
    if (this.playing || this.tracks.size === 0) return;
    this.wanted = true;
    await this.context.resume();
    if (this.playing || !this.wanted) return; // it took its time
    this.start();
    this.onChange();
  }

  stop(): void {
    this.wanted = false;
    if (!this.playing) return;
    this.offset = this.position;
    this.halt();
    this.onChange();
  }

  /** Go on from there; within the loop. */
  seek(position: number): void {
    const place = Math.max(this.loop.start, Math.min(position, this.loop.end - FADE_SECONDS));
    this.moving(() => {
      this.offset = place;
    });
  }

  /** Repeat this part, in seconds, from now on. */
  setLoop(start: number, end: number): void {
    this.moving(() => {
      this.loop = { start, end };
      if (this.offset < start || this.offset >= end) this.offset = start;
    });
  }

  private moving(move: () => void): void {
    const wasPlaying = this.playing;
    if (wasPlaying) {
      this.offset = this.position;
      this.halt();
    }
    move();
    if (wasPlaying) this.start();
  }

  private start(): void {
    const when = this.context.currentTime + LEAD_SECONDS;
    for (const track of this.tracks.values()) {
      track.source = new AudioBufferSourceNode(this.context, {
        buffer: track.buffer,
        loop: true,
        loopStart: this.loop.start,
        loopEnd: this.loop.end,
      });
      track.source.connect(track.gain);
      track.source.start(when, this.offset);
    }
    this.startedAt = when;
  }

  private halt(): void {
    for (const track of this.tracks.values()) {
      track.source?.stop();
      track.source?.disconnect();
      track.source = null;
    }
    this.startedAt = null;
  }
}
