/**
 * The page: a session is dropped, its tracks are looked over, a mix is made, heard, and taken away.
 *
 * What tests hold on to: #files, #folder and #reference-file (file inputs); #tracks with a row [data-file][data-name]
 * [data-group][data-by] a track, in it radio buttons by [value], .use input, .gain input, .problem, .unfold button, and
 * below it .details[data-of] with .plays and .half; [data-choice=dry],
 * [data-choice=balance]; #options with #target-loudness, #true-peak, #keep, #alternatives, #reference; #make; #mixes with
 * [data-mix][data-state] and #cancel; #player[data-position][data-playing][data-source], #play, #song, [data-source];
 * .fader[data-stem] with input, .mute, .solo; #overs; #reset; [data-chart]; [data-export], #made; #connection; #notice.
 */

import { html, nothing, render } from "lit-html";
import { ref } from "lit-html/directives/ref.js";

import type { Mix, MixOptions, SessionState } from "./api";
import { App } from "./app";
import { dropView, listeningView, otherFilesView, uploadsView } from "./files_view";
import { keep, kept } from "./keep";
import { Listen } from "./listen";
import { newsOf } from "./news";
import { fadersView, figuresView, paint, playerView, warningsView } from "./listen_view";
import { FIRST_OPTIONS, type MixEvents, mixesView, optionsView } from "./mix_view";
import type { Session } from "./session";
import { balanceView, tableView } from "./table_view";
import { tabsView } from "./tabs_view";
import { TakeAway } from "./take_away";
import { takeAwayView } from "./take_away_view";
import { icon, inputOf, problem, type View } from "./view";
import { capital, lastName, list, sentence } from "./words";

const app = new App();
const listen = new Listen();
const away = new TakeAway();
let keys = kept("keys", true);
let figuresWidth = 0;
let due = false;
/** What was last told of. */
let told: SessionState | null = null;

const widths = new ResizeObserver(([entry]) => {
  const width = Math.floor(entry!.contentRect.width);
  if (width === figuresWidth) return;
  figuresWidth = width;
  changed();
});

/** Draw the page anew soon: once, however many things have changed by then. */
function changed(): void {
  if (due) return;
  due = true;
  window.setTimeout(() => {
    due = false;
    draw();
  });
}

function draw(): void {
  const { session } = app;
  const mix = shownMix(session);
  listen.show(session, mix);
  away.show(session, mix);
  render(tabsView(app), element("tabs"));
  render(stepsView(session), element("steps"));
  tell(session?.state ?? null);
  render(app.connected ? nothing : html`Connection lost, trying again …`, element("connection"));
  render(noticeView(), element("notice"));
  element("panel").setAttribute("aria-labelledby", session === null ? "tab-new" : `tab-${session.id}`);
  render(panelView(session), element("panel"));
  document.title = session?.state ? `${session.state.name} – fxnorm` : "fxnorm";
  paint(listen);
}

/** Ways down the page, which is long with many tracks. */
function stepsView(session: Session | null): View {
  if (session?.table == null || session.gone) return nothing;
  const steps = [["tracks", "Tracks"], ["mix", "Mix"], ...(listen.mix === null ? [] : [["listen", "Listen"], ["take-away", "Take away"]])];
  return html`<ul>
    ${steps.map(([id, words]) => html`<li><a href=${`#${id}-title`}>${words}</a></li>`)}
  </ul>`;
}

function tell(state: SessionState | null): void {
  const news = told !== null && state !== null && told.id === state.id ? newsOf(told, state) : [];
  told = state;
  if (news.length > 0) element("news").textContent = news.join(" ");
}

function noticeView(): View {
  if (app.problem === null && app.notice === null) return nothing;
  const dismiss = () => {
    app.problem = app.notice = null;
    changed();
  };
  return html`<div>
    ${problem(app.problem)}${app.notice === null ? nothing : html`<p>${app.notice}</p>`}
    <button type="button" class="quiet" aria-label="Dismiss" @click=${dismiss}>${icon("close")}</button>
  </div>`;
}

function panelView(session: Session | null): View {
  if (app.facts === null) return html`<p class="hint">Connecting …</p>`;
  if (session === null) return html`<section class="card start"><h1>A new session</h1>${dropView(app)}</section>`;
  if (session.gone) return goneView(session);
  return html`${headView(session)} ${problem(session.problem, "session-problem")}
    <div class="columns">
      <div class="column">${tracksView(session)}</div>
      <div class="column">
        ${session.table === null ? nothing : mixSection(session)} ${listen.mix === null ? nothing : listenSection(session)}
      </div>
    </div>`;
}

function headView(session: Session): View {
  const { state } = session;
  return html`<div class="head">
    <h1>
      <input
        id="session-name"
        aria-label="Name of the session"
        maxlength="100"
        .value=${state?.name ?? ""}
        @change=${(event: Event) => void app.rename(inputOf(event).value)}
      />
    </h1>
    ${state === null ? nothing : html`<span class="hint">On the server until ${expiry(state.expires)}</span>`}
    <button type="button" id="remove-session" class="small" @click=${() => removeSession(session)}>Remove session</button>
  </div>`;
}

function expiry(time: string): string {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  const hour: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };
  return date.toLocaleString([], today ? hour : { weekday: "long", ...hour });
}

function removeSession(session: Session): void {
  if (window.confirm(`Remove ${session.state?.name ?? "this session"}, its tracks and its mixes from the server?`)) void app.remove();
}

function goneView(session: Session): View {
  return html`<section class="card start" id="gone">
    <h1>This session is gone</h1>
    <p>The server keeps sessions for ${app.facts!.keep_hours} hours. What was in it has to be dropped again.</p>
    <button type="button" class="primary" @click=${() => app.dismiss(session)}>Close it</button>
  </section>`;
}

function tracksView(session: Session): View {
  const options = optionsOf(session);
  const open = kept(`${session.id}/tracks-open`, true);
  const toggle = () => {
    keep(`${session.id}/tracks-open`, !open);
    changed();
  };
  return html`<section class="card" aria-labelledby="tracks-title">
    <div class="title">
      <h2 id="tracks-title">Tracks</h2>
      ${session.table === null
        ? nothing
        : html`<button type="button" id="fold" class="small" aria-expanded=${open} aria-controls="table" @click=${toggle}>
            ${open ? "Fold" : "Unfold"}
          </button>`}
    </div>
    ${dropView(app)} ${uploadsView(session)} ${listeningView(session)} ${otherFilesView(session)}
    ${problemsView(session)}
    ${balanceView(session, options.dry, (dry) => setOptions(session, { dry }))} ${tableView(session, open)}
  </section>`;
}

/** What has to be decided; where it is about a file it also stands in its row. */
function problemsView(session: Session): View {
  const { unreadable } = session;
  const texts = session.state?.problems.map(({ text }) => sentence(capital(text))) ?? [];
  if (unreadable.length > 0) {
    const names = list(unreadable.map(({ name }) => lastName(name)));
    texts.push(`${names} cannot be read: leave ${unreadable.length === 1 ? "it" : "them"} out, or drop a sound copy.`);
  }
  if (texts.length === 0) return nothing;
  return html`<div class="decide" id="decide" role="group" aria-label="To be decided before a mix">
    ${texts.map((text) => problem(text))}
  </div>`;
}

function mixSection(session: Session): View {
  const events: MixEvents = {
    set: (change) => setOptions(session, change),
    make: () => void make(session),
    show: (mix) => {
      keep(`${session.id}/mix`, mix);
      changed();
    },
  };
  return html`<section class="card" aria-labelledby="mix-title">
    <h2 id="mix-title">Mix</h2>
    ${optionsView(app, session, optionsOf(session), events)} ${mixesView(session, listen.mix?.id ?? null, events)}
  </section>`;
}

function listenSection(session: Session): View {
  return html`<section class="card" aria-labelledby="listen-title">
      <h2 id="listen-title">Listen to ${listen.mix!.name}</h2>
      ${warningsView(listen)} ${playerView(listen, keys)} ${fadersView(listen)}
      <div id="figures" ${ref(measured)}>${figuresView(listen, figuresWidth)}</div>
      <label class="hint keys"
        ><input
          type="checkbox"
          id="keys"
          .checked=${keys}
          @change=${(event: Event) => {
            keys = inputOf(event).checked;
            keep("keys", keys);
            changed();
          }}
        />
        Keys: <kbd>Space</kbd> plays and stops, <kbd>1</kbd> … <kbd>9</kbd> choose what is heard</label
      >
    </section>
    <section class="card" aria-labelledby="take-away-title">
      <h2 id="take-away-title">Take away</h2>
      ${takeAwayView(app.facts!, session, listen, away)}
    </section>`;
}

function optionsOf(session: Session): MixOptions {
  const options = { ...FIRST_OPTIONS, ...kept<Partial<MixOptions>>(`${session.id}/options`, {}) };
  const there = session.references.some(({ id }) => id === options.reference);
  return there ? options : { ...options, reference: null };
}

function setOptions(session: Session, change: Partial<MixOptions>): void {
  keep(`${session.id}/options`, { ...optionsOf(session), ...change });
  changed();
}

async function make(session: Session): Promise<void> {
  await session.attempt(async () => {
    await session.saved();
    const state = await session.api.mix(optionsOf(session));
    keep(`${session.id}/mix`, state.mixes.at(-1)?.id ?? null);
    session.accept(state);
  });
}

/** The mix that was chosen, or the newest one that is done. */
function shownMix(session: Session | null): Mix | null {
  const done = session?.state?.mixes.filter(({ state }) => state === "done") ?? [];
  const chosen = session === null ? null : kept<string | null>(`${session.id}/mix`, null);
  return done.find(({ id }) => id === chosen) ?? done.at(-1) ?? null;
}

/** Space, and the numbers of the sources; what has a use for a key of its own keeps it. */
function pressed(event: KeyboardEvent): void {
  if (!keys || listen.mix === null || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const target = event.target as HTMLElement;
  const types = target.closest<HTMLInputElement>("input:not([type=range], [type=radio], [type=checkbox]), select, textarea");
  if (types !== null) return;
  if (event.key === " ") {
    const heard = target.closest("[data-source][aria-pressed=true]");
    if (heard === null && target.closest("button, a, summary, label, input[type=radio], input[type=checkbox]") !== null) return;
    event.preventDefault();
    listen.toggle();
  } else {
    const source = listen.mix.sources[Number(event.key) - 1];
    if (source !== undefined) listen.choose(source.id);
  }
}

function setUpDrop(): void {
  const page = document.documentElement;
  const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    page.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) page.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    page.classList.remove("dropping");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    void app.take(event);
  });
}

/** Figures are drawn as wide as their place is. */
function measured(figures: Element | undefined): void {
  widths.disconnect();
  if (figures !== undefined) widths.observe(figures);
}

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found;
}

function everyPicture(): void {
  if (listen.mix !== null) paint(listen);
  window.requestAnimationFrame(everyPicture);
}

app.onChange = listen.onChange = away.onChange = changed;
document.addEventListener("keydown", pressed);
window.addEventListener("beforeunload", (event) => {
  if (app.isSending) event.preventDefault();
});
setUpDrop();
draw();
void app.start();
everyPicture();
