/** What can be taken away of a mix, and in which form. */

import { html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";

import type { Format, PageFacts } from "./api";
import type { Listen } from "./listen";
import type { Session } from "./session";
import type { TakeAway, What } from "./take_away";
import { choices, icon, inputOf, numberIn, options, problem, selectOf, type View } from "./view";
import { kilohertz, megabytes, sentence } from "./words";

const FORMATS = [
  ["wav", "WAV"],
  ["flac", "FLAC"],
  ["mp3", "MP3"],
] as const;
const BITS: Record<string, string> = { "16": "16 bit", "24": "24 bit", "32f": "32 bit float" };

interface Other {
  what: What;
  label: string;
  hint: string;
  needsParts: boolean;
}

const OTHERS: Other[] = [
  { what: "parts", label: "Parts", hint: "what each stem contributes, as files", needsParts: true },
  { what: "daw", label: "DAW session", hint: "parts on tracks, for REAPER", needsParts: true },
  { what: "tracks", label: "tracks.yaml", hint: "the table of tracks", needsParts: false },
  { what: "description", label: "mix.json", hint: "what was done to each stem", needsParts: true },
  { what: "all", label: "Everything", hint: "all of this in one zip", needsParts: false },
];

export function takeAwayView(facts: PageFacts, session: Session, listen: Listen, away: TakeAway): View {
  const { mix } = listen;
  if (mix === null) return nothing;
  const { wanted } = away;
  const make = (what: What) => void away.make(session, listen, what);
  const ways = mix.sources.filter(({ id }) => id === "mix" || id.startsWith("alternative"));
  const remixed = wanted.source === "mix" && listen.isMoved;
  const obstacle = wanted.source === "mix" && listen.isSilent ? "Every part is muted." : null;
  const bits = facts.bits[wanted.format];
  return html`<form
      class="fields"
      id="take-away"
      @submit=${(event: Event) => {
        event.preventDefault();
        if (obstacle === null) make("mix");
      }}
    >
      <div class="field">
        <span aria-hidden="true">Format</span>
        ${choices("format", "Format", FORMATS, wanted.format, (format: Format) => away.set({ format }))}
      </div>
      ${bits.length > 0
        ? html`<label class="field"
            ><span>Bits</span>
            <select id="bits" @change=${(event: Event) => away.set({ bits: selectOf(event).value || null })}>
              ${options(
                [["", "as usual for the format"], ...bits.map((each) => [each, BITS[each] ?? each] as const)],
                wanted.bits ?? "",
              )}
            </select></label
          >`
        : nothing}
      <label class="field"
        ><span>Sample rate</span>
        <select
          id="export-rate"
          @change=${(event: Event) => away.set({ sample_rate: Number(selectOf(event).value) || null })}
        >
          ${options(
            [[0, `the mix's, ${kilohertz(mix.sample_rate)}`], ...facts.sample_rates.map((rate) => [rate, kilohertz(rate)] as const)],
            wanted.sample_rate ?? 0,
          )}
        </select></label
      >
      ${ways.length > 1
        ? html`<label class="field"
            ><span>Which</span>
            <select id="export-source" @change=${(event: Event) => away.set({ source: selectOf(event).value })}>
              ${options(
                ways.map(({ id, label }) => [id, label] as const),
                wanted.source,
              )}
            </select></label
          >`
        : nothing}
      ${remixed
        ? html`<label class="field"
            ><span>Loudness</span>
            <span class="unit-field"
              ><input
                id="export-loudness"
                type="number"
                min="-60"
                max="0"
                step="0.5"
                placeholder="as it comes out"
                .value=${live(wanted.target_loudness === null ? "" : String(wanted.target_loudness))}
                @change=${(event: Event) => away.set({ target_loudness: numberIn(inputOf(event)) })}
              /><span class="unit">LUFS</span></span
            ></label
          >`
        : nothing}
      <div class="make">
        <button type="submit" id="export-mix" class="primary" data-export="mix" aria-disabled=${obstacle !== null || away.making !== null}>
          ${icon("down")}<span>${remixed ? "Mix, as the faders stand" : "Mix"}</span>
        </button>
        ${obstacle === null ? nothing : html`<span class="hint">${obstacle}</span>`}
      </div>
    </form>
    <div class="others" role="group" aria-label="More to take away">
      ${OTHERS.filter(({ needsParts }) => !needsParts || mix.parts.length > 0).map(
        ({ what, label, hint }) =>
          html`<button type="button" data-export=${what} ?disabled=${away.making !== null} @click=${() => make(what)}>
            ${icon("down")}<span><strong>${label}</strong><span class="hint">${hint}</span></span>
          </button>`,
      )}
    </div>
    <p role="status" id="made">
      ${away.making !== null ? "Making it …" : ""}
      ${away.made === null
        ? nothing
        : html`<a href=${away.address} download=${away.made.name}>${away.made.name}</a> (${megabytes(away.made.bytes)}).
            ${away.made.sentence ? sentence(away.made.sentence) : ""}`}
    </p>
    ${problem(away.problem)}`;
}

