/** A line chart with axes as SVG, and the same values as a table. */

import { type ScaleContinuousNumeric, scaleLinear, scaleLog } from "d3-scale";
import { line } from "d3-shape";
import { html, nothing, svg } from "lit-html";

import type { View } from "./view";
import { number } from "./words";

const HEIGHT = 210;
const MARGIN = { top: 10, right: 12, bottom: 34, left: 44 };
const TICKS = 5;
const LEAST_SPACE = 34; // px between the middles of labels

export interface Axis {
  label: string;
  kind: "log" | "linear";
  domain: [number, number];
  ticks?: number[];
  format: (value: number) => string;
}

export interface Series {
  id: string;
  label: string;
  /** Which of the sources' colours. */
  colour: number;
  points: [number, number | null][];
}

export interface Chart {
  id: string;
  title: string;
  /** What it shows, in a sentence for those who cannot see it. */
  summary: string;
  x: Axis;
  y: Axis;
  series: Series[];
  /** Where the table has its rows. */
  rows: number[];
  unit: string;
}

/** ``heard`` is the series that is drawn in front; ``mark`` is an x to be marked, if there is one. */
export function chartView(chart: Chart, width: number, heard: string, hidden: ReadonlySet<string>): View {
  const right = Math.max(MARGIN.left + 1, width - MARGIN.right);
  const x = scale(chart.x, [MARGIN.left, right]);
  const y = scale(chart.y, [HEIGHT - MARGIN.bottom, MARGIN.top]);
  const path = line<[number, number | null]>()
    .defined(([, value]) => value !== null)
    .x(([at]) => x(at))
    .y(([, value]) => y(value!));
  const shown = chart.series.filter(({ id }) => !hidden.has(id));
  const ordered = [...shown].sort((a, b) => Number(a.id === heard) - Number(b.id === heard));
  return html`<figure class="chart" data-chart=${chart.id}>
    <figcaption>${chart.title}</figcaption>
    <svg width=${width} height=${HEIGHT} role="img" aria-label=${`${chart.title}. ${chart.summary}`}>
      ${yAxis(chart.y, y, right)} ${xAxis(chart.x, x)}
      ${svg`<svg x=${MARGIN.left} y=${MARGIN.top} width=${right - MARGIN.left} height=${HEIGHT - MARGIN.top - MARGIN.bottom}
        viewBox=${`${MARGIN.left} ${MARGIN.top} ${right - MARGIN.left} ${HEIGHT - MARGIN.top - MARGIN.bottom}`}>
        ${ordered.map(
          ({ id, colour, points }) =>
            svg`<path class=${id === heard ? "series heard" : "series"} data-series=${id} data-colour=${colour}
              d=${path(points) ?? ""}></path>`,
        )}
        ${chart.x.kind === "linear" ? svg`<line class="playhead" y1=${MARGIN.top} y2=${HEIGHT - MARGIN.bottom}></line>` : nothing}
      </svg>`}
    </svg>
    <details>
      <summary>As a table<span class="hidden">: ${chart.title}</span></summary>
      ${tableOf(chart)}
    </details>
  </figure>`;
}

/** Where in a chart of this width an x lies between 0 and its axis's end. */
export function placeOf(value: number, end: number, width: number): number {
  return MARGIN.left + (end > 0 ? value / end : 0) * (width - MARGIN.left - MARGIN.right);
}

type Scale = ScaleContinuousNumeric<number, number>;

function scale({ kind, domain }: Axis, range: [number, number]): Scale {
  return (kind === "log" ? scaleLog() : scaleLinear()).domain(domain).range(range);
}

function xAxis(axis: Axis, x: Scale): View {
  let last = -Infinity;
  const ticks = (axis.ticks ?? x.ticks(TICKS)).map((value) => {
    const at = x(value);
    const labelled = at - last >= LEAST_SPACE;
    if (labelled) last = at;
    return svg`<line class="grid" x1=${at} x2=${at} y1=${MARGIN.top} y2=${HEIGHT - MARGIN.bottom}></line>
      ${labelled ? svg`<text x=${at} y=${HEIGHT - MARGIN.bottom + 14} text-anchor="middle">${axis.format(value)}</text>` : nothing}`;
  });
  const [low, high] = x.range() as [number, number];
  return html`${ticks}
  ${svg`<text class="label" x=${(low + high) / 2} y=${HEIGHT - 4} text-anchor="middle">${axis.label}</text>`}`;
}

function yAxis(axis: Axis, y: Scale, right: number): View {
  const middle = (HEIGHT - MARGIN.bottom + MARGIN.top) / 2;
  const ticks = y.ticks(TICKS).map(
    (value) => svg`<line class="grid" x1=${MARGIN.left} x2=${right} y1=${y(value)} y2=${y(value)}></line>
      <text x=${MARGIN.left - 6} y=${y(value) + 4} text-anchor="end">${axis.format(value)}</text>`,
  );
  return html`${ticks}
  ${svg`<text class="label" x="11" y=${middle} text-anchor="middle" transform=${`rotate(-90 11 ${middle})`}>${axis.label}</text>`}`;
}

function tableOf({ title, x, series, rows, unit }: Chart): View {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${`${title}, as a table`}>
    <table class="values">
      <thead>
        <tr>
          <th scope="col">${x.label}</th>
          ${series.map(({ label }) => html`<th scope="col">${label}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (at) => html`<tr>
            <th scope="row">${x.format(at)}</th>
            ${series.map(({ points }) => html`<td>${cell(nearest(points, at), unit)}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function cell(value: number | null, unit: string): string {
  return value === null ? "–" : `${number(value, 1)} ${unit}`;
}

function nearest(points: Series["points"], at: number): number | null {
  let best: Series["points"][number] | null = null;
  for (const point of points) if (best === null || Math.abs(point[0] - at) < Math.abs(best[0] - at)) best = point;
  return best?.[1] ?? null;
}
