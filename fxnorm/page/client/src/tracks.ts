/** The table of tracks as plain values: its order on the page, and what a change of a row makes of it. */

import { GROUPS, type Group, type Table, type Track } from "./api";
import { count, list } from "./words";

const LAST = 9;
const RANK: Record<Track["by"], number> = { guess: 0, heard: 1, word: 2, hand: 2 };

/** Files as they are shown: guesses first, what is left out last, the halves of a pair beside each other. */
export function orderOf(tracks: readonly Track[]): string[] {
  const rank = (track: Track) => (track.use ? RANK[track.by] : LAST);
  const sorted = tracks.map((track, index) => ({ track, index })).sort((a, b) => rank(a.track) - rank(b.track) || a.index - b.index);
  const byFile = new Map(tracks.map((track) => [track.file, track]));
  const order = new Set<string>();
  for (const { track } of sorted) {
    const other = track.pair === null ? undefined : byFile.get(track.pair);
    for (const each of other === undefined ? [track] : [track, other].sort(leftFirst)) order.add(each.file);
  }
  return [...order];
}

/** The order that was shown, as long as it is of the same files: rows do not jump while they are edited. */
export function steadyOrder(before: readonly string[], tracks: readonly Track[]): string[] {
  const same = before.length === tracks.length && tracks.every(({ file }) => before.includes(file));
  return same ? [...before] : orderOf(tracks);
}

function leftFirst(a: Track, b: Track): number {
  return Number(a.side === "right") - Number(b.side === "right");
}

export function needsAnEye(track: Track): boolean {
  return track.use && track.by === "guess";
}

/** Both halves of a pair are of one group. */
export function withGroup(table: Table, file: string, group: Group): Table {
  const pair = table.tracks.find((track) => track.file === file)?.pair ?? null;
  return mapped(table, (track) =>
    track.file === file || (pair !== null && track.file === pair) ? { ...track, group, by: "hand" } : track,
  );
}

/** A gain and what is left out say nothing about what a track is. */
export function withChange(table: Table, file: string, change: Partial<Pick<Track, "gain_db" | "use">>): Table {
  return mapped(table, (track) => (track.file === file ? { ...track, ...change } : track));
}

/** Say of a guess that it is right. */
export function confirmed(table: Table, file: string): Table {
  const track = table.tracks.find((each) => each.file === file);
  return track === undefined ? table : withGroup(table, file, track.group);
}

/** What plays; the halves of a pair are one source. */
export function withSource(table: Table, file: string, source: string): Table {
  return mapped(table, (track) => (track.file === file || track.pair === file ? { ...track, source, by: "hand" } : track));
}

/** A stereo pair of two tracks, of the group and source of the first; their sides are those that a name tells. */
export function paired(table: Table, file: string, other: string, names: Record<"file" | "other", string>): Table {
  const first = table.tracks.find((track) => track.file === file);
  if (first === undefined) return table;
  const isRight = sideIn(names.file) === "right" || (sideIn(names.file) === null && sideIn(names.other) === "left");
  const { group, source } = first;
  const half = (pair: string, right: boolean) =>
    ({ group, source, pair, side: right ? "right" : "left", by: "hand" }) satisfies Partial<Track>;
  return mapped(unpaired(table, file), (track) => {
    if (track.file === file) return { ...track, ...half(other, isRight) };
    return track.file === other ? { ...track, ...half(file, !isRight) } : track;
  });
}

/** The left half of a pair is the right one. */
export function swapped(table: Table, file: string): Table {
  return mapped(table, (track) => {
    if (track.file !== file && track.pair !== file) return track;
    return { ...track, side: track.side === "left" ? "right" : "left", by: "hand" };
  });
}

function sideIn(name: string): "left" | "right" | null {
  const words = name.replace(/\.[^.]+$/, "").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase().split(/[^a-z]+/);
  const last = words.filter((word) => ["l", "r", "left", "right"].includes(word)).at(-1);
  return last === undefined ? null : last.startsWith("l") ? "left" : "right";
}

/** Two tracks instead of a stereo pair. */
export function unpaired(table: Table, file: string): Table {
  return mapped(table, (track) =>
    track.file === file || track.pair === file ? { ...track, pair: null, side: null, by: "hand" } : track,
  );
}

function mapped(table: Table, change: (track: Track) => Track): Table {
  return { ...table, tracks: table.tracks.map(change) };
}

/** 10 drums, 2 bass, 4 vocals and 6 other */
export function groupsInWords(tracks: readonly Track[]): string {
  const used = tracks.filter(({ use }) => use);
  const parts = GROUPS.map((group) => [group, used.filter((track) => track.group === group).length] as const);
  return list(parts.filter(([, number]) => number > 0).map(([group, number]) => `${number} ${group}`));
}

export function summary(tracks: readonly Track[]): string {
  const used = tracks.filter(({ use }) => use).length;
  const aside = tracks.length - used;
  if (used === 0) return `All ${count(aside, "track")} left out`;
  return `${count(used, "track")}: ${groupsInWords(tracks)}${aside > 0 ? `; ${aside} left out` : ""}`;
}
