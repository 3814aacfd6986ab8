/** What the page is given to ask (written by build.py), and what it gives back (read by formats.py). */

export interface Attribute {
  id: string;
  title: string;
  question: string;
  low: string;
  high: string;
}

export interface Reference {
  id: string;
  title: string;
}

export interface Trial {
  id: string;
  clips: string[];
  references: Reference[];
  seconds: number;
  /** Peaks from 0 to 1, one picture for all mixes of the trial. */
  waveform: number[];
}

export interface ListeningTest {
  format: string;
  version: number;
  test: string;
  attributes: Attribute[];
  /** id -> words */
  roles: Record<string, string>;
  devices: Record<string, string>;
  /** Hz */
  sampleRate: number;
  minimumListeningSeconds: number;
  postTo: string | null;
  trials: Trial[];
}

export interface Participant {
  id: string;
  code: string;
  experience_years: number;
  role: string;
  device: string;
  device_model: string;
}

/** clip -> value */
export type ByClip = Record<string, number>;

export interface TrialResult {
  trial: string;
  started: string;
  finished: string;
  /** The mixes as they were numbered, from 1. */
  order: string[];
  listened_seconds: ByClip;
  /** attribute -> clip -> 0 to 100 */
  ratings: Record<string, ByClip>;
}

export interface Result {
  format: string;
  version: number;
  test: string;
  participant: Participant;
  seed: number;
  started: string;
  finished: string;
  trials: TrialResult[];
  comment: string;
}

export function readTest(): ListeningTest {
  return JSON.parse(element("test").textContent ?? "") as ListeningTest;
}

/** The element of the page with this id. */
export function element<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found as Kind;
}

/** A new element with a class and a text. */
export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  className: string,
  text = "",
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
