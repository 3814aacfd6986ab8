/** What is drawn for each participant: the order of trials and mixes, and where the markers stand at first. */

import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

import type { ByClip, ListeningTest, Trial } from "./test";

export interface Draw {
  trial: string;
  order: string[];
  /** attribute -> clip -> where its marker stands before it is placed */
  starts: Record<string, ByClip>;
}

type Generator = ReturnType<typeof xoroshiro128plus>;

const ATTEMPTS = 1000;

/** The same seed gives the same draw, so what one participant saw can be told from it. */
export function drawFor(test: ListeningTest, seed: number): Draw[] {
  const generator = xoroshiro128plus(seed | 0);
  return drawTrials(test.trials, generator).map((trial) => ({
    trial: trial.id,
    order: shuffled(trial.clips, generator),
    starts: Object.fromEntries(test.attributes.map(({ id }) => [id, drawStarts(trial.clips, generator)])),
  }));
}

export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

export function randomIdentifier(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Random, as in APE, so that no place is suggested; each in a part of the axis of its own, so that all are seen. */
function drawStarts(clips: string[], generator: Generator): ByClip {
  const width = 80 / clips.length;
  return Object.fromEntries(
    shuffled(clips, generator).map((clip, part) => [clip, 10 + width * (part + uniformInt(generator, 20, 80) / 100)]),
  );
}

/** No song directly after itself, unless there is no other order. */
function drawTrials(trials: Trial[], generator: Generator): Trial[] {
  let order = shuffled(trials, generator);
  for (let attempt = 0; attempt < ATTEMPTS && order.some((trial, at) => isSameSong(trial, order[at + 1])); attempt++) {
    order = shuffled(trials, generator);
  }
  return order;
}

function isSameSong(one: Trial, other: Trial | undefined): boolean {
  return other !== undefined && one.clips[0] === other.clips[0]; // clips come sorted
}

/** Fisher and Yates's shuffle. */
function shuffled<Item>(items: readonly Item[], generator: Generator): Item[] {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = uniformInt(generator, 0, last);
    [result[last], result[other]] = [result[other]!, result[last]!];
  }
  return result;
}
