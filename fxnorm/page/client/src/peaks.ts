/** The highest value of a sum of streams, measured on the samples that are about to be heard. */

export interface Part {
  buffer: AudioBuffer;
  /** What it is multiplied by. */
  level: number;
}

/** Of all channels, in samples from ``from`` on. */
export function highest(parts: readonly Part[], from: number, count: number): number {
  let most = 0;
  for (let channel = 0; channel < 2; channel += 1) {
    const all = parts.map(({ buffer, level }) => ({ samples: buffer.getChannelData(channel), level }));
    for (let at = from; at < from + count; at += 1) {
      let sum = 0;
      for (const { samples, level } of all) sum += level * (samples[at] ?? 0);
      if (Math.abs(sum) > most) most = Math.abs(sum);
    }
  }
  return most;
}
