/** What the sources look like, as they are heard: all at one loudness. */

import type { Figures, Source } from "./api";
import type { Axis, Chart, Series } from "./chart";
import { clock, list, number } from "./words";

const HERTZ_TICKS = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000];
const OCTAVES = [63, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000];
const TIMES = 8; // rows of a table over time
const SPECTRUM_RANGE = 60; // dB below the highest
const LOUDNESS_RANGE = 30; // LU below the loudest
const LOW: [number, number] = [40, 250]; // Hz
const HIGH: [number, number] = [4000, 16_000];

type Points = [number, number | null][];

export function chartsOf(figures: Figures, sources: readonly Source[], seconds: number): Chart[] {
  const present = sources.filter(({ id }) => id in figures);
  const series = (points: (source: Source) => Points): Series[] =>
    present.map((source) => ({
      id: source.id,
      label: source.label,
      colour: sources.indexOf(source),
      points: points(source),
    }));
  const spectrum = series(({ id, gain_db }) => raised(figures[id]!.spectrum.hertz, figures[id]!.spectrum.db, gain_db));
  const loudness = series(({ id, gain_db }) => raised(figures[id]!.loudness.seconds, figures[id]!.loudness.lufs, gain_db));
  const width = series(({ id }) => raised(figures[id]!.stereo.hertz, figures[id]!.stereo.side_to_middle_db, 0));
  const balance = series(({ id }) => raised(figures[id]!.stereo.hertz, figures[id]!.stereo.balance_db, 0));
  return [
    {
      id: "spectrum",
      title: "Spectrum",
      summary: inWords(spectrum, (points) => tilt(points), "dB from low to high frequencies"),
      x: hertz(),
      y: decibels("dB", below(spectrum, SPECTRUM_RANGE)),
      series: spectrum,
      rows: OCTAVES,
      unit: "dB",
    },
    {
      id: "loudness",
      title: "Loudness over time",
      summary: inWords(loudness, (points) => spread(points), "LU between its quiet and its loud passages"),
      x: { label: "Time", kind: "linear", domain: [0, Math.max(1, seconds)], format: clock },
      y: decibels("LUFS", below(loudness, LOUDNESS_RANGE)),
      series: loudness,
      rows: Array.from({ length: TIMES }, (_, at) => ((at + 0.5) * seconds) / TIMES),
      unit: "LUFS",
    },
    {
      id: "width",
      title: "Width: sides over middle",
      summary: inWords(width, (points) => mean(points, [100, 10_000]), "dB of the sides over the middle"),
      x: hertz(),
      y: decibels("dB", around(width, [-40, 0])),
      series: width,
      rows: OCTAVES,
      unit: "dB",
    },
    {
      id: "balance",
      title: "Balance: right over left",
      summary: inWords(balance, (points) => mean(points, [100, 10_000]), "dB of the right channel over the left"),
      x: hertz(),
      y: decibels("dB", around(balance, [-6, 6])),
      series: balance,
      rows: OCTAVES,
      unit: "dB",
    },
  ];
}

function hertz(): Axis {
  return { label: "Frequency in Hz", kind: "log", domain: [20, 20_000], ticks: HERTZ_TICKS, format: thousands };
}

function decibels(label: string, domain: [number, number]): Axis {
  return { label, kind: "linear", domain, format: (value) => number(value, 0) };
}

function thousands(value: number): string {
  return value < 1000 ? String(Math.round(value)) : `${Math.round(value / 100) / 10}k`;
}

function raised(at: readonly number[], values: readonly (number | null)[], gain: number): Points {
  return at.map((each, index) => [each, values[index] == null ? null : values[index]! + gain]);
}

function valuesOf(series: readonly Series[]): number[] {
  return series.flatMap(({ points }) => points.flatMap(([, value]) => (value === null ? [] : [value])));
}

/** From the highest value down, in steps of 5. */
function below(series: readonly Series[], range: number): [number, number] {
  const values = valuesOf(series);
  if (values.length === 0) return [-range, 0];
  const high = 5 * Math.ceil((Math.max(...values) + 1) / 5);
  const low = 5 * Math.floor((Math.min(...values) - 1) / 5);
  return [Math.max(low, high - range), high];
}

/** At least these, and all values. */
function around(series: readonly Series[], [low, high]: [number, number]): [number, number] {
  const values = valuesOf(series);
  const down = 5 * Math.floor(Math.min(low, ...values) / 5);
  const up = 5 * Math.ceil(Math.max(high, ...values) / 5);
  return [Math.max(down, low - 20), Math.min(up, high + 20)];
}

function mean(points: Points, [low, high]: [number, number]): number | null {
  const within = points.flatMap(([at, value]) => (value !== null && at >= low && at <= high ? [value] : []));
  return within.length === 0 ? null : within.reduce((sum, value) => sum + value, 0) / within.length;
}

function tilt(points: Points): number | null {
  const low = mean(points, LOW);
  const high = mean(points, HIGH);
  return low === null || high === null ? null : high - low;
}

/** Between the values that a tenth are below, and a tenth above. */
function spread(points: Points): number | null {
  const values = points.flatMap(([, value]) => (value === null ? [] : [value])).sort((a, b) => a - b);
  if (values.length === 0) return null;
  const at = (share: number) => values[Math.round(share * (values.length - 1))]!;
  return at(0.9) - at(0.1);
}

function inWords(series: readonly Series[], measure: (points: Points) => number | null, unit: string): string {
  const told = series.flatMap(({ label, points }) => {
    const value = measure(points);
    return value === null ? [] : [`${label} ${number(value, 1)}`];
  });
  return told.length === 0 ? "There is nothing to show." : `In ${unit}: ${list(told)}.`;
}
