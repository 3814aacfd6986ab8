/** How far a participant has come, kept by the browser so that a closed tab loses nothing. */

import { type Draw, drawFor, randomIdentifier, randomSeed } from "./draw";
import type { ByClip, ListeningTest, Participant, Result } from "./test";

export type Stage = "welcome" | "questions" | "trials" | "remarks" | "done";

export interface TrialProgress {
  draw: Draw;
  started: string | null;
  finished: string | null;
  listened: ByClip;
  /** attribute -> clip -> value, of the markers placed so far */
  ratings: Record<string, ByClip>;
}

export interface Progress {
  version: number;
  stage: Stage;
  seed: number;
  started: string | null;
  finished: string | null;
  participant: Participant;
  trials: TrialProgress[];
  comment: string;
  /** What became of posting the answers. */
  delivered: boolean;
}

export class Keeper {
  /** Called when the browser refuses to keep anything. */
  onFailure: () => void = () => {};

  private readonly name: string;

  constructor(private readonly test: ListeningTest) {
    this.name = `fxnorm-listening-test-${test.test}`;
  }

  /** What was kept of this test, or the beginning. */
  load(): Progress {
    try {
      const kept = JSON.parse(localStorage.getItem(this.name) ?? "null") as Progress | null;
      if (kept !== null && kept.version === this.test.version) return kept;
    } catch {
      this.onFailure();
    }
    return beginning(this.test);
  }

  save(progress: Progress): void {
    try {
      localStorage.setItem(this.name, JSON.stringify(progress));
    } catch {
      this.onFailure();
    }
  }

  forget(): void {
    localStorage.removeItem(this.name);
  }
}

function beginning(test: ListeningTest): Progress {
  const seed = randomSeed();
  return {
    version: test.version,
    stage: "welcome",
    seed,
    started: null,
    finished: null,
    participant: {
      id: randomIdentifier(),
      code: new URLSearchParams(location.search).get("participant")?.slice(0, 64) ?? "",
      experience_years: 0,
      role: "",
      device: "",
      device_model: "",
    },
    trials: drawFor(test, seed).map((draw) => ({
      draw,
      started: null,
      finished: null,
      listened: Object.fromEntries(draw.order.map((clip) => [clip, 0])),
      ratings: Object.fromEntries(test.attributes.map(({ id }) => [id, {}])),
    })),
    comment: "",
    delivered: false,
  };
}

/** All answers, of a finished test. */
export function resultOf(test: ListeningTest, progress: Progress): Result {
  return {
    format: test.format,
    version: test.version,
    test: test.test,
    participant: progress.participant,
    seed: progress.seed,
    started: progress.started!,
    finished: progress.finished!,
    trials: progress.trials.map(({ draw, started, finished, listened, ratings }) => ({
      trial: draw.trial,
      started: started!,
      finished: finished!,
      order: draw.order,
      listened_seconds: Object.fromEntries(Object.entries(listened).map(([clip, value]) => [clip, tenths(value)])),
      ratings,
    })),
    comment: progress.comment,
  };
}

function tenths(value: number): number {
  return Math.round(10 * value) / 10;
}
