/**
 * Plays several sounds of one length at once and lets one of them be heard.
 *
 * All sources are started by the same instant of the audio clock and run on together, so switching is to the sample:
 * a crossfade of a few milliseconds, without a gap and without a seek. Starts and stops fade as well, so as not to click.
 */

const FADE_SECONDS = 0.008;
const LEAD_SECONDS = 0.03; // so that all sources are ready when their common start comes, and a fade before it is over

interface Track {
  buffer: AudioBuffer;
  gain: GainNode;
  source: AudioBufferSourceNode | null;
}

export class Player {
  /** Called when playing starts or stops and when another sound is heard. */
  onChange: () => void = () => {};

  private readonly context: AudioContext;
  /** Fades all sounds in and out where they start and stop. */
  private readonly output: GainNode;
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
    this.output = new GainNode(this.context, { gain: 0 });
    this.output.connect(this.context.destination);
  }

  decode(content: ArrayBuffer): Promise<AudioBuffer> {
    return this.context.decodeAudioData(content);
  }

  /** Take these sounds in place of others, stopped and at their beginning. */
  load(buffers: Map<string, AudioBuffer>): void {
    this.stop();
    this.tracks = new Map(); // what fades out keeps its nodes until it has ended
    for (const [name, buffer] of buffers) {
      const gain = new GainNode(this.context, { gain: 0 });
      gain.connect(this.output);
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
    this.output.gain.setValueAtTime(0, when);
    this.output.gain.linearRampToValueAtTime(1, when + FADE_SECONDS);
    this.startedAt = when;
  }

  private halt(): void {
    const now = this.context.currentTime;
    const { gain } = this.output;
    gain.cancelScheduledValues(now);
    // how far the fade has come, reckoned, because not all browsers say
    gain.setValueAtTime(Math.max(0, Math.min(1, (now - (this.startedAt ?? now)) / FADE_SECONDS)), now);
    gain.linearRampToValueAtTime(0, now + FADE_SECONDS);
    for (const track of this.tracks.values()) {
      const { source } = track;
      source?.addEventListener("ended", () => source.disconnect());
      source?.stop(now + FADE_SECONDS);
      track.source = null;
    }
    this.startedAt = null;
  }
}
