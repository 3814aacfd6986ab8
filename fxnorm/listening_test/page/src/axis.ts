/** One attribute's axis with a marker for each mix, to be dragged or moved with the arrow keys. */

import noUiSlider, { type API } from "nouislider";

import { type Attribute, type ByClip, make } from "./test";

const NEAR = 4.5; // points within which two markers' heads would cover each other
const LANES = 3;

export interface AxisEvents {
  /** The marker was taken or focused: its mix is to be heard. */
  taken: (clip: string) => void;
  placed: (clip: string, value: number) => void;
}

export class Axis {
  readonly element: HTMLElement;
  private readonly slider: API;
  private readonly handles: HTMLElement[];
  private values: number[];

  /**
   * @param starts where each marker stands before it is placed
   * @param ratings where the placed ones stand
   */
  constructor(
    attribute: Attribute,
    private readonly order: string[],
    starts: ByClip,
    ratings: ByClip,
    private readonly events: AxisEvents,
  ) {
    this.element = make("section", "axis");
    const heading = make("h3", "axis-title", attribute.title);
    heading.append(make("span", "axis-question", attribute.question));
    const target = make("div", "axis-slider");
    const ends = make("div", "axis-ends");
    ends.append(make("span", "", attribute.low), make("span", "", attribute.high));
    this.element.append(heading, target, ends);
    this.values = order.map((clip) => ratings[clip] ?? starts[clip]!);
    this.slider = noUiSlider.create(target, {
      start: this.values,
      range: { min: 0, max: 100 },
      behaviour: "unconstrained",
      keyboardDefaultStep: 100, // an arrow key moves by one point …
      keyboardPageMultiplier: 10, // … a page key by ten
      handleAttributes: order.map((_, index) => ({ "aria-label": `${attribute.title}, mix ${index + 1}` })),
      ariaFormat: { to: (value) => String(Math.round(value)), from: Number },
    });
    this.handles = [...target.querySelectorAll<HTMLElement>(".noUi-handle")];
    this.handles.forEach((handle, index) => this.dress(handle, index, ratings));
    this.slider.on("start", (_values, index) => this.events.taken(this.order[index]!));
    this.slider.on("slide", (_values, index, unencoded) => this.place(index, unencoded[index]!));
    this.arrange();
  }

  /** Mark the markers of the mix that is heard, and bring them to the front. */
  show(clip: string | null): void {
    this.handles.forEach((handle, index) => {
      handle.classList.toggle("heard", this.order[index] === clip);
      handle.parentElement!.classList.toggle("front", this.order[index] === clip);
    });
  }

  focus(clip: string): void {
    this.handles[this.order.indexOf(clip)]!.focus();
  }

  destroy(): void {
    this.slider.destroy();
  }

  private dress(handle: HTMLElement, index: number, ratings: ByClip): void {
    const clip = this.order[index]!;
    handle.append(make("span", "marker-number", String(index + 1)));
    handle.classList.toggle("placed", clip in ratings);
    if (!(clip in ratings)) handle.setAttribute("aria-description", "not placed yet");
    handle.addEventListener("focus", () => this.events.taken(clip));
    // to leave a marker where it stands is an answer too
    handle.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.place(index, this.values[index]!);
    });
  }

  private place(index: number, value: number): void {
    const rating = Math.round(10 * Math.max(0, Math.min(100, value))) / 10;
    this.values[index] = rating;
    this.handles[index]!.classList.add("placed");
    this.handles[index]!.removeAttribute("aria-description");
    this.arrange();
    this.events.placed(this.order[index]!, rating);
  }

  /** Markers whose heads would cover each other stand at different heights. */
  private arrange(): void {
    const last = new Array<number>(LANES).fill(-Infinity);
    const byValue = this.values.map((_, index) => index).sort((a, b) => this.values[a]! - this.values[b]!);
    for (const index of byValue) {
      const value = this.values[index]!;
      const free = last.findIndex((place) => value - place >= NEAR);
      const lane = free >= 0 ? free : last.indexOf(Math.min(...last));
      last[lane] = value;
      this.handles[index]!.parentElement!.style.setProperty("--lane", String(lane));
    }
  }
}
