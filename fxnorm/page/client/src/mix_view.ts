/** What a mix is asked for with, what becomes of it, and which of them is shown below. */

import { html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";

import type { Mix, MixOptions, PageFacts } from "./api";
import { referencesView } from "./files_view";
import type { App } from "./app";
import type { Session } from "./session";
import { icon, inputOf, numberIn, options as choicesOf, problem, selectOf, type View } from "./view";
import { capital, count, kilohertz, lastName, timeLeft } from "./words";

const PHASES = ["reading tracks", "normalizing", "mixing", "measuring"];
const KEPT = [
  ["", "nothing"],
  ["panning", "panning"],
  ["dynamics", "dynamics"],
] as const;
const SEEDS = 2 ** 31 - 1;

export const FIRST_OPTIONS: MixOptions = {
  dry: true,
  keep: null,
  seed: null,
  target_loudness: null,
  true_peak: -1,
  sample_rate: 44_100,
  alternatives: 1,
  reference: null,
};

export interface MixEvents {
  set: (change: Partial<MixOptions>) => void;
  make: () => void;
  show: (mix: string) => void;
}

export function optionsView(app: App, session: Session, options: MixOptions, events: MixEvents): View {
  const facts = app.facts!;
  const obstacle = obstacleOf(session);
  return html`<form
    id="options"
    class="fields"
    @submit=${(event: Event) => {
      event.preventDefault();
      if (obstacle === null) events.make();
    }}
  >
    <label class="field"
      ><span>Loudness</span>
      <span class="unit-field"
        ><input
          id="target-loudness"
          type="number"
          min="-60"
          max="0"
          step="0.5"
          placeholder="as usual"
          .value=${live(options.target_loudness === null ? "" : String(options.target_loudness))}
          @change=${(event: Event) => events.set({ target_loudness: numberIn(inputOf(event)) })}
        /><span class="unit">LUFS</span></span
      >
      <span class="hint">empty: ${options.reference === null ? "as the Mixer gives it" : "as the reference"}</span></label
    >
    <label class="field"
      ><span>Highest true peak</span>
      <span class="unit-field"
        ><input
          id="true-peak"
          type="number"
          min="-20"
          max="0"
          step="0.1"
          .value=${live(String(options.true_peak))}
          @change=${(event: Event) => events.set({ true_peak: numberIn(inputOf(event)) ?? -1 })}
        /><span class="unit">dBTP</span></span
      >
      <span class="hint">a limiter holds the mix under it</span></label
    >
    ${referenceField(app, session, options, events)} ${alternativesField(facts, options, events)}
    <details class="more field">
      <summary>More</summary>
      <div class="fields">
        <label class="field"
          ><span>Leave as recorded</span>
          <select
            id="keep"
            @change=${(event: Event) => events.set({ keep: (selectOf(event).value || null) as MixOptions["keep"] })}
          >
            ${choicesOf(KEPT, options.keep ?? "")}
          </select></label
        >
        <label class="field"
          ><span>Sample rate</span>
          <select
            id="sample-rate"
            @change=${(event: Event) => events.set({ sample_rate: Number(selectOf(event).value) })}
          >
            ${choicesOf(
              facts.sample_rates.map((rate) => [rate, kilohertz(rate)] as const),
              options.sample_rate,
            )}
          </select></label
        >
        <label class="field"
          ><span>Seed</span>
          <input
            id="seed"
            type="number"
            min="0"
            max=${SEEDS}
            step="1"
            placeholder="the Mixer's"
            .value=${live(options.seed === null ? "" : String(options.seed))}
            @change=${(event: Event) => events.set({ seed: numberIn(inputOf(event)) })}
          />
          <span class="hint">draws the room of dry tracks</span></label
        >
      </div>
    </details>
    <div class="make">
      <button
        type="submit"
        id="make"
        class="primary"
        aria-disabled=${obstacle !== null}
        aria-describedby=${obstacle === null ? nothing : "obstacle"}
      >
        ${session.state?.mixes.length ? "Mix again" : "Mix"}
      </button>
      ${obstacle === null ? nothing : html`<span id="obstacle" class="hint">${obstacle}</span>`}
    </div>
  </form>`;
}

function referenceField(app: App, session: Session, options: MixOptions, events: MixEvents): View {
  const songs = session.references
    .filter(({ problem: text }) => text === null)
    .map(({ id, name }) => [id, lastName(name)] as const);
  return html`<div class="field">
    <label for="reference">Sound like</label>
    <select
      id="reference"
      @change=${(event: Event) => events.set({ reference: selectOf(event).value || null })}
    >
      ${choicesOf([["", "no song in particular"], ...songs], options.reference ?? "")}
    </select>
    ${referencesView(app)}
  </div>`;
}

function alternativesField(facts: PageFacts, options: MixOptions, events: MixEvents): View {
  const numbers = Array.from({ length: facts.most_alternatives }, (_, index) => index + 1);
  const words = (number: number) => (number === 1 ? "one mix" : `${number} ways to choose from`);
  return html`<label class="field"
    ><span>Alternatives</span>
    <select
      id="alternatives"
      @change=${(event: Event) => events.set({ alternatives: Number(selectOf(event).value) })}
    >
      ${choicesOf(
        numbers.map((number) => [number, words(number)] as const),
        options.alternatives,
      )}
    </select>
    <span class="hint">other rooms, own panning, own dynamics</span></label
  >`;
}

/** Why there can be no mix now, in words; null when there can. */
function obstacleOf(session: Session): string | null {
  const { state, uploads, table } = session;
  if (state === null) return "Connecting …";
  if (uploads.active.length > 0) return "When all files are sent.";
  if (session.incomplete.length > 0) return "Some files are incomplete.";
  if (session.isListening) return "When the tracks are listened to.";
  if (table === null) return "There are no tracks yet.";
  if (!table.tracks.some(({ use }) => use)) return "All tracks are left out.";
  if (session.tableProblems.length > 0) return "The table of tracks has to be corrected first.";
  if (session.unreadable.length > 0) return "First leave out what cannot be read, or replace it.";
  return null;
}

/** All mixes of the session, the newest first: under way, done, or not. */
export function mixesView(session: Session, shown: string | null, events: MixEvents): View {
  const mixes = [...(session.state?.mixes ?? [])].reverse();
  if (mixes.length === 0) return nothing;
  return html`<ul id="mixes" class="mixes" aria-label="Mixes">
    ${mixes.map((mix) => html`<li data-mix=${mix.id} data-state=${mix.state}>${mixView(session, mix, mix.id === shown, events)}</li>`)}
  </ul>`;
}

function mixView(session: Session, mix: Mix, shown: boolean, events: MixEvents): View {
  if (mix.state === "queued" || mix.state === "running") return progressView(session, mix);
  const done = mix.state === "done";
  const words = done ? `${describe(mix)}${mix.outdated ? "; tracks changed since" : ""}` : mix.state === "cancelled" ? "cancelled" : "";
  return html`<div class="mix">
    ${done
      ? html`<button type="button" class="choose" aria-pressed=${shown} @click=${() => events.show(mix.id)}>
          <strong>${mix.name}</strong> <span class="hint">${words}</span>
        </button>`
      : html`<span class="choose"><strong>${mix.name}</strong> <span class="hint">${words}</span>${problem(mix.problem)}</span>`}
    <button
      type="button"
      class="quiet"
      aria-label=${`Remove ${mix.name}`}
      @click=${() => session.attempt(() => session.api.removeMix(mix.id))}
    >
      ${icon("close")}
    </button>
  </div>`;
}

function progressView(session: Session, mix: Mix): View {
  const queued = mix.state === "queued";
  const before = mix.position > 0 ? `${count(mix.position, "mix", "mixes")} before it` : "next in line";
  const at = PHASES.indexOf(mix.phase);
  return html`<div class="mix running" id="progress">
    <div class="row">
      <strong id="progress-label-${mix.id}">${mix.name}</strong>
      <span class="hint" data-part="left"
        >${queued ? `waiting, ${before}` : mix.seconds_left === null ? "" : timeLeft(mix.seconds_left)}</span
      >
      <button
        type="button"
        class="small cancel"
        id="cancel"
        @click=${() => session.attempt(async () => session.accept(await session.api.cancelMix(mix.id)))}
      >
        Cancel
      </button>
    </div>
    <progress max="1" .value=${queued ? 0 : mix.fraction} aria-labelledby="progress-label-${mix.id}"></progress>
    <ol class="phases">
      ${PHASES.map(
        (phase, index) =>
          html`<li
            class=${!queued && index < at ? "over" : ""}
            aria-current=${!queued && index === at ? "step" : nothing}
          >
            ${capital(phase)}
          </li>`,
      )}
    </ol>
  </div>`;
}

/** What a mix was asked for with, as far as it is not the usual. */
function describe({ options, sentence, sources }: Mix): string {
  const words = [sentence.replace(/\.$/, ""), options.dry ? "dry" : "wet"];
  if (options.keep !== null) words.push(`own ${options.keep}`);
  if (options.reference !== null) words.push("like the reference");
  const ways = sources.filter(({ id }) => id.startsWith("alternative")).length;
  if (ways > 0) words.push(count(ways, "alternative"));
  return words.filter(Boolean).join(", ");
}
