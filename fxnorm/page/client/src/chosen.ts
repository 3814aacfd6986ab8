/** What a person dropped or chose: which files of it go to the server, under which names, and which do not and why. */

import { type FileWithPath, fromEvent } from "file-selector";

import type { PageFacts, SessionFile } from "./api";
import { megabytes } from "./words";

const ALSO_TAKEN = [".zip", ".yaml", ".yml"];

export interface Chosen {
  /** The path within the folder. */
  name: string;
  file: File;
}

export interface Sorted {
  /** The folder's name, if one folder was chosen. */
  folder: string | null;
  taken: Chosen[];
  /** Names of files that are no audio. */
  passedOver: string[];
  /** Of files that are audio, but cannot be taken. */
  refused: { name: string; problem: string }[];
}

/** The files of a drop, or of a file input's change; folders with all that is in them. */
export async function filesOf(event: Event): Promise<FileWithPath[]> {
  return (await fromEvent(event)).filter((each): each is FileWithPath => each instanceof File);
}

export function sortChosen(
  files: { path: string; file: File }[],
  facts: PageFacts,
  present: readonly SessionFile[],
): Sorted {
  const { folder, names } = within(files.map(({ path }) => path));
  const sorted: Sorted = { folder, taken: [], passedOver: [], refused: [] };
  let room = facts.limits.files - present.length;
  let bytes = facts.limits.session_bytes - present.reduce((sum, each) => sum + each.bytes, 0);
  files.forEach(({ file }, index) => {
    const name = names[index]!;
    const there = present.find((each) => each.name === name && each.bytes === file.size);
    if (there !== undefined) {
      if (there.received < there.bytes) sorted.taken.push({ name, file });
    } else if (!isTaken(name, facts.suffixes)) {
      sorted.passedOver.push(name);
    } else if (file.size === 0) {
      sorted.refused.push({ name, problem: "The file is empty." });
    } else if (file.size > facts.limits.file_bytes) {
      const problem = `The file has ${megabytes(file.size)}; a file may have ${megabytes(facts.limits.file_bytes)}.`;
      sorted.refused.push({ name, problem });
    } else if (room < 1) {
      sorted.refused.push({ name, problem: `A session may have ${facts.limits.files} files.` });
    } else if (file.size > bytes) {
      const problem = `A session may have ${megabytes(facts.limits.session_bytes)} in all.`;
      sorted.refused.push({ name, problem });
    } else {
      room -= 1;
      bytes -= file.size;
      sorted.taken.push({ name, file });
    }
  });
  return sorted;
}

/** Names without the folder that all files lie in, and that folder. */
function within(paths: string[]): { folder: string | null; names: string[] } {
  const plain = paths.map((path) => path.replace(/^(\.?\/)+/, ""));
  const first = plain[0]?.split("/") ?? [];
  const folder = first.length > 1 ? first[0]! : null;
  if (folder === null || !plain.every((path) => path.startsWith(`${folder}/`))) return { folder: null, names: plain };
  return { folder, names: plain.map((path) => path.slice(folder.length + 1)) };
}

function isTaken(name: string, suffixes: readonly string[]): boolean {
  const parts = name.split("/");
  if (parts.some((part) => part.startsWith(".") || part === "__MACOSX")) return false;
  const file = name.toLowerCase();
  return [...suffixes, ...ALSO_TAKEN].some((suffix) => file.endsWith(suffix));
}
