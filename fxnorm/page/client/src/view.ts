/** Small things that all views are made of. */

import { html, nothing, svg, type TemplateResult } from "lit-html";
import { live } from "lit-html/directives/live.js";

export type View = TemplateResult | typeof nothing;

const ICONS = {
  play: "M5 3.5v13l11-6.5z",
  stop: "M4 4h12v12H4z",
  close: "M5 5l10 10M15 5L5 15",
  add: "M10 4v12M4 10h12",
  down: "M10 3v10m-4-4l4 4 4-4M4 16.5h12",
  chevron: "M6 8l4 4 4-4",
  folder: "M2.5 5h5l1.5 2h8.5v9h-15z",
  files: "M5 2.5h7l3.5 3.5v11.5H5zM12 2.5V6h3.5",
  alert: "M10 3l8 14H2zM10 8v4.5M10 14.2v.6",
} as const;

export function icon(name: keyof typeof ICONS): View {
  return html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    ${svg`<path d=${ICONS[name]} class=${name === "play" || name === "stop" ? "solid" : "line"}></path>`}
  </svg>`;
}

/** Something that went wrong, where it went wrong. */
export function problem(text: string | null | undefined, id?: string): View {
  if (!text) return nothing;
  return html`<p class="problem" id=${id ?? nothing}>${icon("alert")}<span>${text}</span></p>`;
}

const pictures = new WeakMap<number[], string>();

/** Peaks as an area around the middle, the highest as high as the picture: as wide as there are peaks, and 64 high. */
export function wave(peaks: number[]): string {
  const known = pictures.get(peaks);
  if (known !== undefined) return known;
  const highest = Math.max(1, ...peaks);
  const half = peaks.map((peak) => Math.max(0.5, (peak / highest) * 31));
  const top = half.map((height, at) => `${at + 0.5} ${(32 - height).toFixed(1)}`);
  const bottom = half.map((height, at) => `${at + 0.5} ${(32 + height).toFixed(1)}`).reverse();
  const path = `M${[...top, ...bottom].join("L")}Z`;
  pictures.set(peaks, path);
  return path;
}

export function inputOf(event: Event): HTMLInputElement {
  return event.currentTarget as HTMLInputElement;
}

export function selectOf(event: Event): HTMLSelectElement {
  return event.currentTarget as HTMLSelectElement;
}

/** A name that breaks between its words only, as long as there is room for each of them. */
export function breakable(name: string): View {
  return html`${name.split(/(?<=[_\-/ ])|(?<=[a-z])(?=[A-Z])/).map((word) => html`${word}<wbr />`)}`;
}

/** What a person typed into a field for numbers, within its bounds; null where it is empty or no number. */
export function numberIn(input: HTMLInputElement): number | null {
  const value = input.valueAsNumber;
  if (!Number.isFinite(value)) return null;
  const low = input.min === "" ? -Infinity : Number(input.min);
  const high = input.max === "" ? Infinity : Number(input.max);
  return Math.max(low, Math.min(high, value));
}

/** Choices of which one holds, as native radio buttons that look like one switch. */
export function choices<Value extends string>(
  name: string,
  label: string,
  all: readonly (readonly [Value, string])[],
  chosen: Value,
  choose: (value: Value) => void,
): View {
  return html`<div class="choices" role="radiogroup" aria-label=${label} data-choice=${name}>
    ${all.map(
      ([value, words]) =>
        html`<label
          ><input
            type="radio"
            name=${name}
            value=${value}
            .checked=${live(value === chosen)}
            @change=${() => choose(value)}
          /><span>${words}</span></label
        >`,
    )}
  </div>`;
}

/** The choices of a select. */
export function options<Value extends string | number>(
  all: readonly (readonly [Value, string])[],
  chosen: Value,
): View {
  return html`${all.map(
    ([value, words]) => html`<option value=${value} .selected=${live(value === chosen)}>${words}</option>`,
  )}`;
}
