/** The table of tracks: what each was taken for, to be corrected by mouse or keys. */

import { html, nothing, svg } from "lit-html";
import { live } from "lit-html/directives/live.js";
import { repeat } from "lit-html/directives/repeat.js";

import { type Group, GROUPS, type SessionFile, type Table, type Track } from "./api";
import type { Session } from "./session";
import { confirmed, needsAnEye, paired, summary, swapped, unpaired, withChange, withGroup, withSource } from "./tracks";
import { breakable, choices, icon, inputOf, numberIn, options, problem, selectOf, type View, wave } from "./view";
import { besides, capital, clock, count, decibels, kilohertz, lastName, sentence } from "./words";

const KEYS: Record<string, Group> = { v: "vocals", b: "bass", d: "drums", o: "other" };
const GROUP_CHOICES = GROUPS.map((group) => [group, capital(group)] as const);
const BY: Record<Track["by"], string> = { guess: "a guess", heard: "by its sound", word: "by its name", hand: "by you" };
const MOST_GAIN_DB = 60;
const LONGEST_SOURCE = 200;

export function tableView(session: Session, open: boolean): View {
  const { table } = session;
  if (table === null) return nothing;
  const byFile = new Map(table.tracks.map((track) => [track.file, track]));
  const tracks = session.order.flatMap((file) => byFile.get(file) ?? []);
  const guesses = tracks.filter(needsAnEye).length;
  return html`<div id="table">
    <p class="summary" id="table-summary">
      ${summary(tracks)}${guesses > 0
        ? html`. <strong class="mark">${count(guesses, "guess", "guesses")} to check</strong>, listed first`
        : nothing}.
    </p>
    ${session.tableProblems.filter(({ file }) => file === null).map(({ text }) => problem(text))}
    <table class="tracks" role="table" id="tracks" ?hidden=${!open} @keydown=${(event: KeyboardEvent) => pressed(session, event)}>
      <caption class="hidden">
        Tracks. On a focused row V, B, D and O choose the group, U leaves it out or takes it in, Enter keeps a guess, E
        shows what plays and its pair, and the arrow keys go to other rows.
      </caption>
      <thead role="rowgroup">
        <tr role="row">
          <th role="columnheader" scope="col"><span class="hidden">Use</span></th>
          <th role="columnheader" scope="col">Track</th>
          <th role="columnheader" scope="col"><span class="hidden">Waveform</span></th>
          <th role="columnheader" scope="col">Group</th>
          <th role="columnheader" scope="col">How found</th>
          <th role="columnheader" scope="col" class="figure">Gain</th>
          <th role="columnheader" scope="col" class="figure">Level and length</th>
          <th role="columnheader" scope="col"><span class="hidden">Details</span></th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${repeat(
          tracks,
          ({ file }) => file,
          (track, index) => html`${row(session, table, track, index === 0)}${detailsView(session, table, track)}`,
        )}
      </tbody>
    </table>
    <p class="hint keys" ?hidden=${!open}>
      <kbd>↑</kbd> <kbd>↓</kbd> rows <kbd>V</kbd> <kbd>B</kbd> <kbd>D</kbd> <kbd>O</kbd> group <kbd>U</kbd> use
      <kbd>Enter</kbd> keep a guess <kbd>E</kbd> details
    </p>
  </div>`;
}

function row(session: Session, table: Table, track: Track, first: boolean): View {
  const file = session.file(track.file);
  if (file === undefined) return nothing;
  const name = lastName(file.name);
  const folder = file.name.slice(0, -name.length);
  const undecided = [...(session.state?.problems ?? []), ...session.tableProblems];
  const problems = undecided.filter((each) => each.file === track.file).map(({ text }) => text);
  const text = [...(file.problem === null ? [] : [file.problem]), ...problems]
    .map((words) => sentence(besides(file.name, words)))
    .join(" ");
  const peaks = session.waveforms[track.file]?.peaks;
  const words = track.use ? `${track.group}, ${BY[track.by]}` : "left out";
  return html`<tr
    role="row"
    class=${[track.use ? "" : "unused", needsAnEye(track) ? "guess" : "", text ? "wrong" : ""].join(" ").trim()}
    data-file=${track.file}
    data-name=${file.name}
    data-group=${track.group}
    data-by=${track.by}
    tabindex=${first ? 0 : -1}
    aria-label=${`${name}: ${words}`}
  >
    <td role="cell" class="use">
      <input
        type="checkbox"
        .checked=${live(track.use)}
        aria-label=${`Use ${name}`}
        @change=${(event: Event) => session.edit((now) => withChange(now, track.file, { use: inputOf(event).checked }))}
      />
    </td>
    <td role="cell" class="track">
      <span class="name" title=${file.name}><span class="folder">${breakable(folder)}</span>${breakable(name)}</span>
      ${track.pair === null ? nothing : pairView(session, table, track)}
      ${track.why && !text ? html`<span class="why">${capital(track.why)}</span>` : nothing} ${problem(text)}
    </td>
    <td role="cell" class="picture">
      ${peaks === undefined
        ? nothing
        : html`<svg viewBox="0 0 ${peaks.length} 64" preserveAspectRatio="none" aria-hidden="true">
            ${svg`<path d=${wave(peaks)}></path>`}
          </svg>`}
    </td>
    <td role="cell" class="group">
      ${choices(`group-${track.file}`, `Group of ${name}`, GROUP_CHOICES, track.group, (group) =>
        session.edit((now) => withGroup(now, track.file, group)),
      )}
    </td>
    <td role="cell" class="by">
      ${needsAnEye(track)
        ? html`<span class="mark">A guess</span>
            <button
              type="button"
              class="small"
              aria-label=${`Keep ${track.group} for ${name}`}
              @click=${() => session.edit((now) => confirmed(now, track.file))}
            >
              Keep
            </button>`
        : html`<span class="hint">${track.use ? capital(BY[track.by]) : "Left out"}</span>`}
    </td>
    <td role="cell" class="gain figure">${gainView(session, track, name)}</td>
    <td role="cell" class="level figure">${levelView(file)}</td>
    <td role="cell" class="unfold">
      <button
        type="button"
        class="quiet"
        aria-label=${`Details of ${name}`}
        aria-expanded=${session.unfolded.has(track.file)}
        aria-controls=${`details-${track.file}`}
        @click=${() => session.unfold(track.file)}
      >
        ${icon("chevron")}
      </button>
    </td>
  </tr>`;
}

function gainView(session: Session, track: Track, name: string): View {
  return html`<input
      type="number"
      min=${-MOST_GAIN_DB}
      max=${MOST_GAIN_DB}
      step="0.5"
      .value=${live(String(track.gain_db))}
      aria-label=${`Gain of ${name} in dB`}
      @change=${(event: Event) =>
        session.edit((now) => withChange(now, track.file, { gain_db: numberIn(inputOf(event)) ?? 0 }))}
    /><span class="unit" aria-hidden="true">dB</span>`;
}

/** What is seldom changed; on a narrow page also what has no room in the row. */
function detailsView(session: Session, table: Table, track: Track): View {
  const file = session.file(track.file);
  if (file === undefined || !session.unfolded.has(track.file)) return nothing;
  const name = lastName(file.name);
  return html`<tr role="row" class="details" id=${`details-${track.file}`} data-of=${track.file}>
    <td role="cell" colspan="8">
      <div class="fields">
        <label class="field"
          ><span>What plays</span>
          <input
            class="plays"
            maxlength=${LONGEST_SOURCE}
            placeholder="as its name says"
            .value=${live(track.source)}
            @change=${(event: Event) => session.edit((now) => withSource(now, track.file, inputOf(event).value.trim()))}
          />
          <span class="hint">tracks of one source are summed, such as the microphones of a drum</span></label
        >
        ${halvesView(session, table, track)}
        <div class="field narrow" data-group=${track.group}>
          <span aria-hidden="true">Gain</span>
          <span class="unit-field gain">${gainView(session, track, name)}</span>
        </div>
        <button type="button" class="small remove" @click=${() => session.removeFiles([track.file])}>Remove the file</button>
        <p class="hint narrow">${factsView(track, file)}</p>
      </div>
    </td>
  </tr>`;
}

/** All that a wide page says of a track in its row. */
function factsView(track: Track, file: SessionFile): View {
  const found = [track.use ? BY[track.by] : "left out", track.why].filter(Boolean).map((words) => sentence(capital(words)));
  return html`${file.name}<br />${found.join(" ")}<br />${levelView(file)}`;
}

/** Mono tracks that stand alone can be the other half of a pair. */
function halvesView(session: Session, table: Table, track: Track): View {
  const nameOf = (file: string) => session.file(file)?.name ?? "";
  if (session.file(track.file)?.channels !== 1) return nothing;
  const free = table.tracks.filter(
    ({ file, pair, use }) =>
      file !== track.file && (file === track.pair || (use && pair === null && session.file(file)?.channels === 1)),
  );
  if (free.length === 0) return nothing;
  const pairWith = (other: string) =>
    session.edit((now) =>
      other === ""
        ? unpaired(now, track.file)
        : paired(now, track.file, other, { file: nameOf(track.file), other: nameOf(other) }),
    );
  const choicesOfHalves = [["", "none"], ...free.map(({ file }) => [file, lastName(nameOf(file))])] as [string, string][];
  return html`<div class="field">
    <label for=${`half-${track.file}`}>Other half of its stereo pair</label>
    <select id=${`half-${track.file}`} class="half" @change=${(event: Event) => pairWith(selectOf(event).value)}>
      ${options(choicesOfHalves, track.pair ?? "")}
    </select>
    ${track.pair === null
      ? nothing
      : html`<span class="hint"
          >This is the ${track.side} one.
          <button type="button" class="link swap" @click=${() => session.edit((now) => swapped(now, track.file))}>
            Swap the sides
          </button></span
        >`}
  </div>`;
}

function levelView({ seconds, sample_rate, channels, loudness_lufs }: SessionFile): View {
  if (seconds === undefined) return html`–`;
  const channel = channels === 1 ? "mono" : channels === 2 ? "stereo" : "";
  const rate = sample_rate === undefined ? "" : kilohertz(sample_rate);
  const format = [clock(seconds), rate, channel].filter(Boolean).join(", ");
  return html`${loudness_lufs === null ? "silent" : decibels(loudness_lufs, "LUFS")}<span class="format">${format}</span>`;
}

function pairView(session: Session, table: Table, track: Track): View {
  const other = session.file(track.pair!);
  const name = lastName(other?.name ?? "");
  const once = table.tracks.find(({ file }) => file === track.pair) !== undefined;
  return html`<span class="pair"
    ><span class="side" title=${capital(track.side ?? "")} aria-hidden="true">${track.side === "right" ? "R" : "L"}</span>
    <span class="hidden">${capital(track.side ?? "half")},</span> pair with ${name}
    ${once && track.side === "left"
      ? html`<button
          type="button"
          class="link"
          aria-label=${`Part ${lastName(session.file(track.file)?.name ?? "")} and ${name}: they are no pair`}
          @click=${() => session.edit((now) => unpaired(now, track.file))}
        >
          Part
        </button>`
      : nothing}</span
  >`;
}

/** Keys on a row, and in what is in it unless something is typed there. */
function pressed(session: Session, event: KeyboardEvent): void {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const target = event.target as HTMLElement;
  const row = target.closest<HTMLTableRowElement>("tr[data-file]");
  if (row === null || (target instanceof HTMLInputElement && target.type === "number")) return;
  const file = row.dataset.file!;
  const group = KEYS[event.key.toLowerCase()];
  if (group !== undefined) session.edit((table) => withGroup(table, file, group));
  else if (event.key.toLowerCase() === "u") session.edit((table) => withChange(table, file, { use: !isUsed(table, file) }));
  else if (event.key.toLowerCase() === "e") session.unfold(file);
  else if (event.key === "Enter" && target === row) session.edit((table) => confirmed(table, file));
  else if (target !== row || !goTo(row, event.key)) return;
  event.preventDefault();
}

function isUsed(table: Table, file: string): boolean {
  return table.tracks.find((track) => track.file === file)?.use ?? false;
}

/** One row is in the order of the Tab key; the arrow keys go to the others. */
function goTo(row: HTMLTableRowElement, key: string): boolean {
  const rows = [...row.parentElement!.querySelectorAll<HTMLTableRowElement>("tr[data-file]")];
  const at = rows.indexOf(row);
  const places: Record<string, number> = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 };
  const place = places[key];
  if (place === undefined) return false;
  const next = rows[Math.max(0, Math.min(rows.length - 1, place))]!;
  row.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  return true;
}

export function balanceView(session: Session, dry: boolean, setDry: (dry: boolean) => void): View {
  const { table } = session;
  if (table === null) return nothing;
  return html`<div class="row settings">
    <div class="setting">
      <span class="label" aria-hidden="true">The tracks are</span>
      ${choices("dry", "The tracks are", DRYNESS, dry ? "dry" : "wet", (value) => setDry(value === "dry"))}
      <span class="hint">${dry ? "raw recordings, without effects" : "recorded with effects of their own"}</span>
    </div>
    <div class="setting">
      <span class="label" aria-hidden="true">Their balance</span>
      ${choices("balance", "Their balance", BALANCES, table.balance, (balance) =>
        session.edit((now) => ({ ...now, balance })),
      )}
      <span class="hint"
        >${table.balance === "loudness" ? "each instrument at the same loudness" : "the levels that the files have"}</span
      >
    </div>
  </div>`;
}

const DRYNESS = [
  ["dry", "Dry"],
  ["wet", "Wet"],
] as const;

const BALANCES = [
  ["loudness", "By loudness"],
  ["as_is", "As recorded"],
] as const;

