/** How the parts of a mix are set: faders, mute and solo. Plain values; the page draws them and the player follows them. */

import type { Group } from "./api";

export const LOWEST_DB = -30;
export const HIGHEST_DB = 12;

export interface Fader {
  gain_db: number;
  mute: boolean;
  solo: boolean;
}

export type Faders = Partial<Record<Group, Fader>>;

export const AT_REST: Fader = { gain_db: 0, mute: false, solo: false };

export function fader(faders: Faders, part: Group): Fader {
  return faders[part] ?? AT_REST;
}

/** A part is muted or solo, never both. */
export function withFader(faders: Faders, part: Group, change: Partial<Fader>): Faders {
  const changed = { ...fader(faders, part), ...change };
  if (change.mute) changed.solo = false;
  if (change.solo) changed.mute = false;
  return { ...faders, [part]: changed };
}

export function isMoved(faders: Faders, parts: readonly Group[]): boolean {
  return parts.some((part) => {
    const { gain_db, mute, solo } = fader(faders, part);
    return gain_db !== 0 || mute || solo;
  });
}

/** What each part is multiplied by: where some are solo, those alone are heard. */
export function factors(faders: Faders, parts: readonly Group[]): Partial<Record<Group, number>> {
  const solo = parts.some((part) => fader(faders, part).solo);
  return Object.fromEntries(
    parts.map((part) => {
      const each = fader(faders, part);
      return [part, each.mute || (solo && !each.solo) ? 0 : 10 ** (each.gain_db / 20)];
    }),
  );
}

export function isSilent(faders: Faders, parts: readonly Group[]): boolean {
  return Object.values(factors(faders, parts)).every((factor) => factor === 0);
}

/** As the server takes them: what is as it was is left out. */
export function asChange(faders: Faders, parts: readonly Group[]) {
  const where = (is: (fader: Fader) => boolean) => parts.filter((part) => is(fader(faders, part)));
  return {
    gains_db: Object.fromEntries(where(({ gain_db }) => gain_db !== 0).map((part) => [part, fader(faders, part).gain_db])),
    muted: where(({ mute }) => mute),
    solo: where(({ solo }) => solo),
  };
}
