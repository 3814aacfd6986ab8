/** One song: its mixes to switch between, the axes to place them on, and what is still to be done. */

import { Axis } from "./axis";
import { loadClip } from "./clips";
import type { Player } from "./player";
import type { TrialProgress } from "./progress";
import { element, type ListeningTest, make, type Trial } from "./test";
import { Waveform } from "./waveform";

const TICK_MILLISECONDS = 50;
const SEEK_SECONDS = 2; // of an arrow key on the waveform

export interface TrialEvents {
  changed: () => void;
  finished: () => void;
}

export class TrialPage {
  private readonly trial: Trial;
  private readonly axes: Axis[];
  private readonly buttons = new Map<string, HTMLButtonElement>();
  private waveform: Waveform | null = null;
  private timer = 0;
  private counted: number | null = null;
  private ready = false;
  /** What was left to do when that was last said. */
  private said: string | null = null;
  private readonly ended = new AbortController();

  constructor(
    private readonly test: ListeningTest,
    private readonly progress: TrialProgress,
    private readonly player: Player,
    private readonly events: TrialEvents,
  ) {
    this.trial = test.trials.find(({ id }) => id === progress.draw.trial)!;
    this.axes = test.attributes.map(
      (attribute) =>
        new Axis(attribute, this.order, progress.draw.starts[attribute.id]!, progress.ratings[attribute.id]!, {
          taken: (clip) => this.hear(clip),
          placed: (clip, value) => {
            progress.ratings[attribute.id]![clip] = value;
            this.update();
            events.changed();
          },
        }),
    );
    element("axes").replaceChildren(...this.axes.map((axis) => axis.element));
    this.makeButtons();
    this.listen();
    this.update();
    void this.load();
  }

  /** Take everything off the page again. */
  close(): void {
    this.ended.abort();
    window.clearInterval(this.timer);
    this.player.stop();
    this.player.onChange = () => {};
    this.axes.forEach((axis) => axis.destroy());
    this.waveform?.destroy();
  }

  private get order(): string[] {
    return this.progress.draw.order;
  }

  private get minimum(): number {
    return Math.min(this.test.minimumListeningSeconds, this.trial.seconds);
  }

  private makeButtons(): void {
    const mixes = this.order.map((clip, index) => this.button(clip, `Mix ${index + 1}`, "mix", String(index + 1)));
    element("mixes").replaceChildren(...mixes);
    const references = this.trial.references.map(({ id, title }, index) =>
      this.button(id, title, "reference", index === 0 ? "0" : ""),
    );
    element("references").replaceChildren(...references);
    element("references-group").hidden = references.length === 0;
  }

  private button(clip: string, title: string, kind: string, key: string): HTMLButtonElement {
    const made = make("button", kind, title);
    made.type = "button";
    made.dataset.clip = clip;
    if (key) made.setAttribute("aria-keyshortcuts", key);
    made.append(make("span", "state", ""));
    made.addEventListener("click", () => this.choose(clip));
    this.buttons.set(clip, made);
    return made;
  }

  private listen(): void {
    const { signal } = this.ended;
    const on = (id: string, act: () => void) => element(id).addEventListener("click", act, { signal });
    on("play", () => this.toggle());
    on("loop-start", () => this.loopTo(this.player.position, this.player.loopRegion.end));
    on("loop-end", () => this.loopTo(this.player.loopRegion.start, this.player.position));
    on("loop-whole", () => this.waveform?.choose(0, this.trial.seconds));
    on("next", () => this.next());
    document.addEventListener("keydown", (event) => this.pressed(event), { signal });
    element("waveform").addEventListener("keydown", (event) => this.moved(event), { signal });
  }

  private async load(): Promise<void> {
    const page = element("trial");
    page.classList.add("loading");
    element("loading").textContent = "Loading the sound …";
    try {
      const names = [...this.order, ...this.trial.references.map(({ id }) => id)];
      const load = async (name: string) => [name, await this.player.decode(await loadClip(name))] as const;
      const buffers = new Map(await Promise.all(names.map(load)));
      if (this.ended.signal.aborted) return;
      this.start(buffers);
      page.classList.remove("loading");
      element("loading").textContent = "";
    } catch (error) {
      if (this.ended.signal.aborted) return;
      const reason = error instanceof Error ? error.message : String(error);
      element("loading").textContent = `The sound cannot be loaded: ${reason}. Reload the page to try again; nothing is lost.`;
    }
  }

  private start(buffers: Map<string, AudioBuffer>): void {
    this.player.load(buffers);
    this.player.onChange = () => this.update();
    this.player.select(this.order[0]!);
    this.waveform = new Waveform(element("waveform"), this.trial.waveform, this.trial.seconds, {
      seek: (position) => {
        this.player.seek(position);
        this.showPosition();
      },
      loop: (start, end) => {
        this.player.setLoop(start, end);
        this.update();
      },
    });
    this.timer = window.setInterval(() => this.tick(), TICK_MILLISECONDS);
    this.ready = true;
    this.update();
  }

  private tick(): void {
    const now = performance.now() / 1000;
    const { selected } = this.player;
    if (this.player.playing && this.counted !== null && selected !== null && selected in this.progress.listened) {
      const before = this.progress.listened[selected]!;
      this.progress.listened[selected] = before + now - this.counted;
      if (Math.floor(before) !== Math.floor(this.progress.listened[selected]!)) this.events.changed();
      if (before < this.minimum) this.update();
    }
    this.counted = this.player.playing ? now : null;
    this.showPosition();
  }

  private showPosition(): void {
    const { position } = this.player;
    this.waveform?.show(position);
    element("position").textContent = `${clock(position)} / ${clock(this.trial.seconds)}`;
    const waveform = element("waveform");
    waveform.setAttribute("aria-valuenow", position.toFixed(0));
    waveform.setAttribute("aria-valuemax", this.trial.seconds.toFixed(0));
    waveform.setAttribute("aria-valuetext", `${position.toFixed(0)} of ${this.trial.seconds.toFixed(0)} seconds`);
  }

  private hear(clip: string): void {
    if (this.ready) this.player.select(clip);
  }

  private choose(clip: string): void {
    this.hear(clip);
    if (this.ready) void this.player.play();
  }

  private toggle(): void {
    if (!this.ready) return;
    if (this.player.playing) this.player.stop();
    else void this.player.play();
  }

  private loopTo(start: number, end: number): void {
    if (end - start >= 0.5) this.waveform?.choose(start, end);
    else this.say("A loop lasts half a second at least.");
  }

  private pressed(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === " ") {
      if (event.target instanceof Element && event.target.id === "next") return;
      event.preventDefault(); // the page would scroll, or a button be pressed
      if (!event.repeat) this.toggle();
    } else if (event.key === "0") {
      const reference = this.trial.references[0];
      if (reference) this.choose(reference.id);
    } else {
      const clip = this.order[Number(event.key) - 1];
      if (clip !== undefined) this.choose(clip);
    }
  }

  /** Arrow keys on the waveform. */
  private moved(event: KeyboardEvent): void {
    const steps: Record<string, number> = { ArrowLeft: -SEEK_SECONDS, ArrowRight: SEEK_SECONDS };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.player.seek(this.player.position + step);
    this.showPosition();
  }

  private next(): void {
    const [first] = this.missing();
    if (first === undefined) {
      this.events.finished();
      return;
    }
    first.go();
    this.say(first.text);
  }

  /** What is to be done before the next song, in words, and how to get there. */
  private missing(): { text: string; go: () => void }[] {
    const unheard = this.order.flatMap((clip, index) =>
      this.progress.listened[clip]! >= this.minimum
        ? []
        : [{ text: `Listen to mix ${index + 1} a little longer.`, go: () => this.buttons.get(clip)!.focus() }],
    );
    const unplaced = this.test.attributes.flatMap(({ id, title }, at) =>
      this.order.flatMap((clip, index) =>
        clip in this.progress.ratings[id]!
          ? []
          : [{ text: `Place mix ${index + 1} on ${title}.`, go: () => this.axes[at]!.focus(clip) }],
      ),
    );
    return [...unheard, ...unplaced];
  }

  private say(text: string): void {
    element("todo").textContent = text;
  }

  private update(): void {
    const { selected, playing } = this.player;
    for (const [clip, button] of this.buttons) {
      button.disabled = !this.ready;
      button.setAttribute("aria-pressed", String(this.ready && clip === selected));
    }
    for (const clip of this.order) this.showState(clip);
    this.axes.forEach((axis) => axis.show(this.ready ? selected : null));
    const play = element<HTMLButtonElement>("play");
    play.disabled = !this.ready;
    play.textContent = playing ? "Stop" : "Play";
    play.classList.toggle("playing", playing);
    const missing = this.missing();
    element("next").setAttribute("aria-disabled", String(missing.length > 0));
    this.sayWhatIsLeft(missing.map(({ text }) => text));
    this.showPosition();
  }

  /** Only when it has changed: until then a hint stays, and screen readers have nothing to read out again. */
  private sayWhatIsLeft(missing: string[]): void {
    const all = missing.join();
    if (all === this.said) return;
    this.said = all;
    const left = missing.length === 1 ? "One thing is left to do." : `${missing.length} things are left to do.`;
    this.say(missing.length === 0 ? "All mixes are heard and placed." : left);
  }

  private showState(clip: string): void {
    const heard = this.progress.listened[clip]! >= this.minimum;
    const placed = this.test.attributes.filter(({ id }) => clip in this.progress.ratings[id]!).length;
    const state = this.buttons.get(clip)!.querySelector(".state")!;
    state.textContent = `${heard ? "heard" : "not heard"}, ${placed}/${this.test.attributes.length} placed`;
    this.buttons.get(clip)!.classList.toggle("complete", heard && placed === this.test.attributes.length);
  }
}

function clock(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}
