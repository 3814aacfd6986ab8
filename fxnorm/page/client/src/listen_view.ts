/** The player: sources to switch between, the song to move in, faders for the parts, and figures. */

import { html, nothing, svg } from "lit-html";
import { live } from "lit-html/directives/live.js";

import type { Group } from "./api";
import { chartView, placeOf } from "./chart";
import { fader, HIGHEST_DB, LOWEST_DB } from "./faders";
import type { Listen } from "./listen";
import { icon, inputOf, problem, type View, wave } from "./view";
import { capital, change, clock, decibels, sentence, spokenTime } from "./words";

const SEEK_SECONDS = 2; // of an arrow key
const FAR_SECONDS = 10; // of a page key
const DRAG_PIXELS = 6; // from which on a click is a drag
const CHART_GAP = 16;

export function playerView(listen: Listen, keys: boolean): View {
  const { mix, player } = listen;
  if (mix === null) return nothing;
  const { playing, waiting } = player;
  return html`<div class="player" id="player">
    <div class="transport">
      <button
        type="button"
        id="play"
        class="primary round"
        aria-label=${playing || waiting ? "Stop" : "Play"}
        aria-keyshortcuts=${keys ? "Space" : nothing}
        @click=${() => listen.toggle()}
      >
        ${icon(playing || waiting ? "stop" : "play")}
      </button>
      ${songView(listen)}
      <div class="clock"><output id="position" aria-live="off"></output></div>
    </div>
    ${sourcesView(listen, keys)}
    <div class="row loop" role="group" aria-label="Loop">
      <span class="hint">Loop</span>
      <button type="button" id="loop-start" class="small" @click=${() => loopFrom(listen)}>From here</button>
      <button type="button" id="loop-end" class="small" @click=${() => loopTo(listen)}>To here</button>
      <button type="button" id="loop-none" class="small" ?disabled=${player.loopSeconds === null} @click=${() => player.setLoop(null)}>
        No loop
      </button>
      <span class="hint wide">or drag across the waveform</span>
      <span role="status" class="hint" id="sound">${waiting ? "The sound is coming …" : ""}</span>
    </div>
    ${problem(listen.problem)}
  </div>`;
}

function songView(listen: Listen): View {
  const { player, figures, source } = listen;
  const peaks = figures?.[source]?.waveform ?? [];
  const loop = player.loopSeconds;
  const share = (seconds: number) => (100 * seconds) / Math.max(player.seconds, 1e-3);
  return html`<div
    class="song"
    id="song"
    role="slider"
    tabindex="0"
    aria-label="Position in the song"
    aria-valuemin="0"
    aria-valuemax=${Math.round(player.seconds)}
    aria-valuenow="0"
    @keydown=${(event: KeyboardEvent) => moved(listen, event)}
    @pointerdown=${(event: PointerEvent) => pressed(listen, event)}
  >
    <svg viewBox="0 0 ${Math.max(1, peaks.length)} 64" preserveAspectRatio="none" aria-hidden="true" data-colour=${colourOf(listen, source)}>
      ${loop === null
        ? nothing
        : svg`<rect class="loop" x=${(share(loop.start) * peaks.length) / 100} y="0" height="64"
            width=${((share(loop.end) - share(loop.start)) * peaks.length) / 100}></rect>`}
      ${peaks.length > 0 ? svg`<path d=${wave(peaks)}></path>` : nothing}
    </svg>
    <div class="played" aria-hidden="true"></div>
    <div class="cursor" aria-hidden="true"></div>
  </div>`;
}

function colourOf(listen: Listen, source: string): number {
  return listen.mix?.sources.findIndex(({ id }) => id === source) ?? 0;
}

function sourcesView(listen: Listen, keys: boolean): View {
  const { mix, source, isMoved } = listen;
  return html`<div class="sources" role="group" aria-label="What is heard, all at one loudness">
    ${mix!.sources.map(
      ({ id, label, loudness_lufs }, index) =>
        html`<button
          type="button"
          class="source"
          data-source=${id}
          data-colour=${index}
          aria-pressed=${id === source}
          aria-keyshortcuts=${keys && index < 9 ? String(index + 1) : nothing}
          @click=${() => listen.choose(id)}
        >
          ${swatch(index)}
          <span class="words"
            ><strong>${label}</strong>
            <span class="hint">${id === "mix" && isMoved ? "faders moved" : decibels(loudness_lufs, "LUFS")}</span></span
          >
          ${keys && index < 9 ? html`<kbd aria-hidden="true">${index + 1}</kbd>` : nothing}
        </button>`,
    )}
  </div>
  <p class="hint">All are played at one loudness; the numbers are their own.</p>`;
}

function swatch(colour: number): View {
  return html`<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true">
    ${svg`<path class="series heard" data-colour=${colour} d="M0 4H24"></path>`}
  </svg>`;
}

export function fadersView(listen: Listen): View {
  const { mix, faders, isMoved } = listen;
  if (mix === null || mix.parts.length === 0) return nothing;
  return html`<div class="faders" id="faders" role="group" aria-label="Faders of the parts">
    ${mix.parts.map((part) => faderView(listen, part))}
    <div class="row">
      <button type="button" id="reset" class="small" ?disabled=${!isMoved} @click=${() => listen.reset()}>Reset faders</button>
      <span class="hint"
        >${listen.isSilent
          ? "Every part is muted."
          : isMoved
            ? "You hear the parts as the faders stand."
            : `At rest, the parts add up to the mix.`}</span
      >
    </div>
    <p class="mark" role="status" id="overs">
      ${listen.passesFullScale
        ? "Peaks pass full scale here; the file that you take away is held under its true peak."
        : ""}
    </p>
  </div>`;

  function faderView(listen: Listen, part: Group): View {
    const { gain_db, mute, solo } = fader(faders, part);
    const name = capital(part);
    return html`<div class="fader" data-stem=${part} data-group=${part}>
      <span class="name">${name}</span>
      <button
        type="button"
        class="toggle mute"
        aria-pressed=${mute}
        aria-label=${`Mute ${part}`}
        title="Mute"
        @click=${() => listen.move(part, { mute: !mute })}
      >
        M
      </button>
      <button
        type="button"
        class="toggle solo"
        aria-pressed=${solo}
        aria-label=${`Solo ${part}`}
        title="Solo"
        @click=${() => listen.move(part, { solo: !solo })}
      >
        S
      </button>
      <div class="slide"
        ><input
        type="range"
        min=${LOWEST_DB}
        max=${HIGHEST_DB}
        step="0.5"
        .value=${live(String(gain_db))}
        aria-label=${`${name}, fader`}
        aria-valuetext=${change(gain_db)}
        title="Double-click: back to 0 dB"
        @input=${(event: Event) => listen.move(part, { gain_db: inputOf(event).valueAsNumber })}
        @dblclick=${() => listen.move(part, { gain_db: 0 })}
      /></div>
      <output class="figure">${change(gain_db)}</output>
    </div>`;
  }
}

export function figuresView(listen: Listen, width: number): View {
  const { charts, source, hidden, mix } = listen;
  if (charts.length === 0 || mix === null || width === 0) return nothing;
  const columns = width >= 1100 ? 4 : width >= 560 ? 2 : 1;
  const each = Math.floor((width - CHART_GAP * (columns - 1)) / columns);
  return html`<div class="legend" role="group" aria-label="Sources in the figures">
      ${mix.sources.map(
        ({ id, label }, index) =>
          html`<label
            ><input
              type="checkbox"
              .checked=${live(!hidden.has(id))}
              @change=${(event: Event) => {
                if (inputOf(event).checked) hidden.delete(id);
                else hidden.add(id);
                listen.onChange();
              }}
            />${swatch(index)}${label}</label
          >`,
      )}
    </div>
    <div class="charts" data-columns=${columns}>${charts.map((chart) => chartView(chart, each, source, hidden))}</div>
    <p class="hint">All at the loudness that they are heard at. What is heard is drawn in front.</p>`;
}

export function warningsView({ mix }: Listen): View {
  if (mix === null || (mix.warnings.length === 0 && !mix.outdated)) return nothing;
  return html`<ul class="warnings" id="warnings">
    ${mix.outdated ? html`<li>The tracks were changed since this mix was made.</li>` : nothing}
    ${mix.warnings.map((text) => html`<li>${sentence(text)}</li>`)}
  </ul>`;
}

/** What moves while the song plays; called for every picture that the browser draws. */
export function paint(listen: Listen): void {
  const player = document.getElementById("player");
  const song = document.getElementById("song");
  if (player === null || song === null) return;
  const { position, seconds, playing, waiting } = listen.player;
  const share = seconds > 0 ? position / seconds : 0;
  player.dataset.position = position.toFixed(3);
  player.dataset.playing = String(playing);
  player.dataset.waiting = String(waiting);
  player.dataset.source = listen.source;
  song.style.setProperty("--played", `${(100 * share).toFixed(3)}%`);
  const text = `${clock(position)} / ${clock(seconds)}`;
  const output = document.getElementById("position")!;
  if (output.textContent === text) {
    paintPlayhead(position, seconds);
    return;
  }
  output.textContent = text;
  song.setAttribute("aria-valuenow", String(Math.round(position)));
  song.setAttribute("aria-valuetext", `${spokenTime(position)} of ${spokenTime(seconds)}`);
  paintPlayhead(position, seconds);
}

function paintPlayhead(position: number, seconds: number): void {
  const playhead = document.querySelector<SVGLineElement>(".playhead");
  const chart = playhead?.ownerSVGElement?.ownerSVGElement;
  if (!playhead || !chart) return;
  const at = String(placeOf(position, seconds, chart.width.baseVal.value));
  playhead.setAttribute("x1", at);
  playhead.setAttribute("x2", at);
}

function moved({ player }: Listen, event: KeyboardEvent): void {
  const places: Record<string, number> = {
    ArrowLeft: player.position - SEEK_SECONDS,
    ArrowDown: player.position - SEEK_SECONDS,
    ArrowRight: player.position + SEEK_SECONDS,
    ArrowUp: player.position + SEEK_SECONDS,
    PageDown: player.position - FAR_SECONDS,
    PageUp: player.position + FAR_SECONDS,
    Home: 0,
    End: player.seconds,
  };
  const place = places[event.key];
  if (place === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  player.seek(place);
}

/** A click goes there, a drag makes a loop of what it goes over. */
function pressed(listen: Listen, event: PointerEvent): void {
  if (event.button !== 0) return;
  const song = event.currentTarget as HTMLElement;
  const box = song.getBoundingClientRect();
  const secondsAt = ({ clientX }: PointerEvent) =>
    (Math.max(0, Math.min(1, (clientX - box.left) / box.width)) || 0) * listen.player.seconds;
  const start = secondsAt(event);
  const over = new AbortController();
  song.setPointerCapture(event.pointerId);
  song.addEventListener(
    "pointerup",
    (end) => {
      over.abort();
      if (Math.abs(end.clientX - event.clientX) >= DRAG_PIXELS) listen.loop(start, secondsAt(end));
      else goTo(listen, start);
    },
    { signal: over.signal },
  );
  song.addEventListener("pointercancel", () => over.abort(), { signal: over.signal });
}

/** Outside of the loop: no loop any more. */
function goTo({ player }: Listen, seconds: number): void {
  const loop = player.loopSeconds;
  if (loop !== null && (seconds < loop.start || seconds >= loop.end)) player.setLoop(null);
  player.seek(seconds);
}

function loopFrom(listen: Listen): void {
  listen.loop(listen.player.position, listen.player.loopSeconds?.end ?? listen.player.seconds);
}

function loopTo(listen: Listen): void {
  listen.loop(listen.player.loopSeconds?.start ?? 0, listen.player.position);
}
