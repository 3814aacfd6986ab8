/** Hearing a mix: which source is heard, how the faders stand, where it is in the song. The view is listen_view.ts. */

import { type Figures, type Group, type Mix, Refusal } from "./api";
import { type Chart } from "./chart";
import { factors, type Faders, isMoved, isSilent, withFader, type Fader } from "./faders";
import { chartsOf } from "./figures";
import { keep, kept } from "./keep";
import { patiently } from "./patience";
import { type Levels, Player } from "./player";
import type { Session } from "./session";
import { reason } from "./words";

const MIX = "mix";
const SHORTEST_LOOP = 0.5; // s

export class Listen {
  readonly player = new Player();
  mix: Mix | null = null;
  /** The source that is heard. */
  source = MIX;
  faders: Faders = {};
  figures: Figures | null = null;
  charts: Chart[] = [];
  /** Sources that the figures leave out. */
  hidden = new Set<string>();
  problem: string | null = null;
  onChange: () => void = () => {};

  private session: Session | null = null;
  private ended = new AbortController();

  constructor() {
    this.player.onChange = () => this.onChange();
    this.player.onTrouble = (problem) => {
      const gone = problem instanceof Refusal && problem.status === 404;
      this.problem = problem === null ? null : gone ? "The sound is no longer on the server." : reason(problem);
      this.onChange();
    };
  }

  /** Show this mix; the same one again goes on playing. */
  show(session: Session | null, mix: Mix | null): void {
    if (this.session === session && this.mix?.id === mix?.id) {
      this.mix = mix; // it may be outdated by now
      return;
    }
    this.ended.abort();
    this.ended = new AbortController();
    this.session = session;
    this.mix = mix;
    this.problem = null;
    this.figures = null;
    this.charts = [];
    this.hidden = new Set();
    this.source = MIX;
    if (session === null || mix === null) {
      this.player.unload();
      return;
    }
    this.faders = kept<Faders>(this.name, {});
    this.player.load({
      sampleRate: mix.sample_rate,
      samples: mix.samples,
      streams: [...mix.sources.map(({ id }) => id), ...mix.parts.map(streamOf)],
      bring: (stream, start, count, signal) => session.api.audio(mix.id, stream, start, count, signal),
    });
    this.setLevels();
    void this.bringFigures(session, mix, this.ended.signal);
  }

  get isMoved(): boolean {
    return this.mix !== null && isMoved(this.faders, this.mix.parts);
  }

  get isSilent(): boolean {
    return this.mix !== null && this.mix.parts.length > 0 && isSilent(this.faders, this.mix.parts);
  }

  /** The sum of the parts passes full scale, about where it plays. */
  get passesFullScale(): boolean {
    return this.source === MIX && this.isMoved && this.player.passesFullScale;
  }

  /** Let this source be heard, at the same place. */
  choose(source: string): void {
    this.source = source;
    this.setLevels();
    this.onChange();
  }

  toggle(): void {
    if (this.player.playing || this.player.waiting) this.player.stop();
    else void this.player.play();
  }

  /** Moving a fader is heard, so it is the mix that is. */
  move(part: Group, change: Partial<Fader>): void {
    this.set(withFader(this.faders, part, change));
  }

  reset(): void {
    this.set({});
  }

  loop(start: number, end: number): void {
    const { seconds } = this.player;
    const [low, high] = [Math.max(0, Math.min(start, end)), Math.min(seconds, Math.max(start, end))];
    this.player.setLoop(high - low >= SHORTEST_LOOP ? { start: low, end: high } : null);
  }

  private set(faders: Faders): void {
    this.faders = faders;
    keep(this.name, faders);
    this.choose(MIX);
  }

  private get name(): string {
    return `${this.session!.id}/${this.mix!.id}/faders`;
  }

  /** Full scale is the file's, which is not turned down to the loudness of the other sources. */
  private setLevels(): void {
    this.player.setLevels(this.levels, Math.min(1, this.gain(MIX)));
  }

  private gain(id: string): number {
    return 10 ** ((this.mix?.sources.find((source) => source.id === id)?.gain_db ?? 0) / 20);
  }

  /** All sources at one loudness; the parts at the mix's gain, since together they are the mix. */
  private get levels(): Levels {
    const { mix } = this;
    if (mix === null) return {};
    if (this.source !== MIX || !this.isMoved) return { [this.source]: this.gain(this.source) };
    const parts = factors(this.faders, mix.parts);
    return Object.fromEntries(mix.parts.map((part) => [streamOf(part), this.gain(MIX) * parts[part]!]));
  }

  private async bringFigures(session: Session, mix: Mix, signal: AbortSignal): Promise<void> {
    try {
      const figures = await patiently(() => session.api.figures(mix.id), signal);
      if (signal.aborted) return;
      this.figures = figures;
      this.charts = chartsOf(figures, mix.sources, mix.samples / mix.sample_rate);
    } catch (error) {
      if (signal.aborted) return;
      this.problem = `The figures cannot be shown: ${reason(error)}`;
    }
    this.onChange();
  }
}

function streamOf(part: Group): string {
  return `part-${part}`;
}
