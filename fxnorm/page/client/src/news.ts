/** What has happened to a session, in sentences, for those who do not see the page change. */

import type { Mix, SessionState } from "./api";
import { count, sentence } from "./words";

/** Between two states of the same session. */
export function newsOf(before: SessionState, after: SessionState): string[] {
  const news: string[] = [];
  if (before.listening === null && after.listening !== null) news.push("Listening to the tracks.");
  if (before.listening !== null && after.listening === null) news.push(tracksInWords(after));
  for (const mix of after.mixes) {
    const words = mixInWords(before.mixes.find(({ id }) => id === mix.id), mix);
    if (words !== null) news.push(words);
  }
  return news;
}

function tracksInWords({ table, problems }: SessionState): string {
  const tracks = table?.tracks ?? [];
  const guesses = tracks.filter(({ by, use }) => use && by === "guess").length;
  const check = guesses > 0 ? `, ${count(guesses, "guess", "guesses")} to check` : "";
  return [`${count(tracks.length, "track")} in the table${check}.`, ...problems.map(({ text }) => sentence(text))].join(" ");
}

function mixInWords(before: Mix | undefined, after: Mix): string | null {
  if (before === undefined || (before.state === after.state && before.phase === after.phase)) return null;
  if (after.state === "running") return after.phase ? `${after.name}: ${after.phase}.` : null;
  const words = { queued: "is waiting", done: "is done", failed: "failed", cancelled: "was cancelled" }[after.state];
  return [`${after.name} ${words}.`, after.state === "done" ? after.sentence : (after.problem ?? "")].filter(Boolean).map(sentence).join(" ");
}
