/** The picture of a song with the playing position, on which a part to loop is chosen. It is the same for all mixes. */

import WaveSurfer from "wavesurfer.js";
import RegionsPlugin, { type Region } from "wavesurfer.js/plugins/regions";

const SHORTEST_LOOP = 0.5; // s

export interface WaveformEvents {
  seek: (position: number) => void;
  loop: (start: number, end: number) => void;
}

export class Waveform {
  private readonly surfer: WaveSurfer;
  private readonly regions: InstanceType<typeof RegionsPlugin>;
  private region: Region | null = null;

  constructor(
    container: HTMLElement,
    peaks: number[],
    private readonly seconds: number,
    private readonly events: WaveformEvents,
  ) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    this.regions = RegionsPlugin.create();
    this.surfer = WaveSurfer.create({
      container,
      peaks: [peaks],
      duration: seconds,
      height: 64,
      waveColor: colour("--wave"),
      progressColor: colour("--wave-played"),
      cursorColor: colour("--accent"),
      cursorWidth: 2,
      barWidth: 2,
      barGap: 1,
      barRadius: 1,
      plugins: [this.regions],
    });
    this.surfer.on("interaction", (position) => this.clicked(position));
    this.regions.enableDragSelection({ color: colour("--loop"), minLength: SHORTEST_LOOP });
    this.regions.on("region-created", (region) => this.chosen(region));
    this.regions.on("region-updated", (region) => this.chosen(region));
  }

  show(position: number): void {
    this.surfer.setTime(position);
  }

  /** Choose this part as dragging over it does. */
  choose(start: number, end: number): void {
    const whole = end - start >= this.seconds;
    this.region?.remove();
    this.region = null;
    if (whole) this.events.loop(0, this.seconds);
    else this.regions.addRegion({ start, end, minLength: SHORTEST_LOOP, color: this.colour("--loop") });
  }

  destroy(): void {
    this.surfer.destroy();
  }

  private chosen(region: Region): void {
    if (this.region !== region) this.region?.remove();
    this.region = region;
    this.events.loop(region.start, region.end);
  }

  /** Outside of the loop: the whole song again, from there. */
  private clicked(position: number): void {
    if (this.region !== null && (position < this.region.start || position > this.region.end)) this.choose(0, this.seconds);
    this.events.seek(position);
  }

  private colour(name: string): string {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }
}
