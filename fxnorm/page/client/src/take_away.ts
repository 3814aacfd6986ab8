/** Taking things away: the server makes a file of what is asked for, and the browser downloads it. */

import type { Export, ExportRequest, Format, Mix } from "./api";
import { asChange } from "./faders";
import { keep, kept } from "./keep";
import type { Listen } from "./listen";
import type { Session } from "./session";
import { reason } from "./words";

export type What = ExportRequest["what"];

export interface Wanted {
  format: Format;
  bits: string | null;
  sample_rate: number | null;
  target_loudness: number | null;
  source: string;
}

const FIRST: Wanted = { format: "wav", bits: null, sample_rate: null, target_loudness: null, source: "mix" };

export class TakeAway {
  wanted: Wanted = kept("take-away", FIRST);
  /** What is being made now. */
  making: What | null = null;
  made: Export | null = null;
  address = "";
  problem: string | null = null;
  onChange: () => void = () => {};

  private of = "";

  /** What was said of another mix does not hold for this one. */
  show(session: Session | null, mix: Mix | null): void {
    const name = `${session?.id}/${mix?.id}`;
    if (name === this.of) return;
    this.of = name;
    this.made = this.problem = null;
    this.wanted = { ...this.wanted, source: "mix" };
  }

  set(change: Partial<Wanted>): void {
    this.wanted = { ...this.wanted, ...change };
    if (change.format !== undefined) this.wanted.bits = null;
    keep("take-away", { ...this.wanted, source: "mix" });
    this.onChange();
  }

  async make(session: Session, listen: Listen, what: What): Promise<void> {
    const { mix } = listen;
    if (mix === null || this.making !== null) return;
    this.making = what;
    this.made = this.problem = null;
    this.onChange();
    const { of } = this;
    try {
      const change = asChange(listen.faders, mix.parts);
      const made = await session.api.export(mix.id, { what, ...this.wanted, true_peak: null, ...change });
      if (of !== this.of) return;
      this.made = made;
      this.address = session.api.exportAddress(mix.id, made.id);
      download(this.address, made.name);
    } catch (error) {
      if (of === this.of) this.problem = reason(error);
    } finally {
      this.making = null;
      this.onChange();
    }
  }
}

function download(address: string, name: string): void {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}
