/** How the answers leave the page: posted, if there is an address, and as a file always. */

import type { ListeningTest, Result } from "./test";

const PATIENCE_MILLISECONDS = 30_000;

export function download(result: Result): void {
  const url = URL.createObjectURL(new Blob([JSON.stringify(result, null, 2)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `listening-test-${result.test}-${result.participant.id}.json`;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(url), PATIENCE_MILLISECONDS);
}

/** Rejects with words that can be shown when the server does not take the answers. */
export async function post(test: ListeningTest, result: Result): Promise<void> {
  const patience = new AbortController(); // AbortSignal.timeout is younger than browsers that can do all else
  const timer = window.setTimeout(() => patience.abort(), PATIENCE_MILLISECONDS);
  const options = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(result),
    signal: patience.signal,
  };
  let response: Response;
  try {
    response = await fetch(test.postTo!, options);
  } catch {
    throw new Error(patience.signal.aborted ? "the server did not answer" : "the server could not be reached");
  } finally {
    window.clearTimeout(timer);
  }
  if (!response.ok) throw new Error(`the server answered with status ${response.status}`);
}
