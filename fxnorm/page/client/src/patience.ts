/** Trying again when the connection is lost, later each time, and at once when the browser says that it is back. */

import { Refusal, Unreachable } from "./api";

const FIRST_WAIT = 500; // ms
const LONGEST_WAIT = 10_000; // ms
const LATER = [408, 425, 429, 500, 502, 503, 504];

/** How long to wait before this attempt, in ms; the first one that failed is 0. */
export function backOff(attempt: number): number {
  return Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempt);
}

/** Whether the same request may be answered later. */
export function mayPass(error: unknown): boolean {
  return error instanceof Unreachable || (error instanceof Refusal && LATER.includes(error.status));
}

export function wait(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = () => {
      window.clearTimeout(timer);
      window.removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      if (signal?.aborted) reject(new DOMException("given up", "AbortError"));
      else resolve();
    };
    const timer = window.setTimeout(done, milliseconds);
    window.addEventListener("online", done);
    signal?.addEventListener("abort", done);
    if (signal?.aborted) done();
  });
}

/** What ``act`` gives, once the server answers; ``waiting`` hears of each attempt that failed. */
export async function patiently<Result>(
  act: () => Promise<Result>,
  signal: AbortSignal,
  waiting: () => void = () => {},
): Promise<Result> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!mayPass(error)) throw error;
      waiting();
      await wait(backOff(attempt), signal);
    }
  }
}
