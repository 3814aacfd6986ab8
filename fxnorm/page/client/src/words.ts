/** Numbers and names in the words that the page shows. */

const MINUS = "−";

/** 75 -> 1:15 */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** For those who listen to the page: 75 -> 1 minute 15 seconds. */
export function spokenTime(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  return [minutes ? count(minutes, "minute") : "", count(whole % 60, "second")].filter(Boolean).join(" ");
}

/** How long something will take, as roughly as it is known. */
export function timeLeft(seconds: number): string {
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} seconds left`;
  if (seconds < 90) return "about a minute left";
  return `about ${Math.round(seconds / 60)} minutes left`;
}

export function megabytes(bytes: number): string {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** With a true minus, and a plus if asked for. */
export function number(value: number, digits: number, plus = false): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return `${value < 0 ? MINUS : plus ? "+" : ""}${text}`;
}

export function decibels(value: number | null | undefined, unit = "dB", digits = 1): string {
  return value == null ? "–" : `${number(value, digits)} ${unit}`;
}

export function change(value: number): string {
  return `${number(value, 1, true)} dB`;
}

/** 44100 -> 44.1 kHz */
export function kilohertz(hertz: number): string {
  return `${Number((hertz / 1000).toFixed(3))} kHz`;
}

export function count(number: number, thing: string, things = `${thing}s`): string {
  return `${number} ${number === 1 ? thing : things}`;
}

export function percent(fraction: number): string {
  return `${Math.round(100 * fraction)} %`;
}

/** a, b and c */
export function list(words: string[]): string {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

export function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** Drums/01_Kick.wav -> 01_Kick.wav */
export function lastName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** What is said of a file, without its name before it. */
export function besides(name: string, words: string): string {
  return capital(words.startsWith(`${name}: `) ? words.slice(name.length + 2) : words);
}

export function sentence(words: string): string {
  return /[.!?…]$/.test(words) ? words : `${words}.`;
}

export function reason(error: unknown): string {
  return sentence(error instanceof Error ? error.message : String(error));
}
