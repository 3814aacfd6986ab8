/** Where files are dropped, and what becomes of them until they are tracks. */

import { html, nothing } from "lit-html";
import { repeat } from "lit-html/directives/repeat.js";

import type { SessionFile } from "./api";
import type { App } from "./app";
import type { Session } from "./session";
import type { Upload } from "./upload";
import { icon, problem, type View } from "./view";
import { besides, clock, count, kilohertz, lastName, megabytes, percent, timeLeft } from "./words";

/** The place to drop on: large while there is nothing else, a strip of buttons later. */
export function dropView(app: App): View {
  const { facts, session } = app;
  const empty = !session?.state?.files.length && !session?.uploads.all.length;
  const limits =
    facts &&
    `Up to ${facts.limits.files} files of ${Math.round(facts.limits.seconds / 60)} minutes. ` +
      `All of it is removed from the server after ${facts.keep_hours} hours.`;
  const kinds = facts?.suffixes.map((suffix) => suffix.slice(1)).join(", ");
  return html`<div class=${empty ? "drop large" : "drop"} id="drop">
    ${empty
      ? html`<p class="lead">Drop the folder of a recording session here</p>
          <p class="hint">A folder, audio files or a zip: raw tracks, one file each, such as <em>07_OH_L.wav</em>.</p>`
      : html`<p class="hint">Drop more files anywhere, or</p>`}
    <div class="row">${chooser(app, "folder", "Choose a folder", true)} ${chooser(app, "files", "Choose files", false)}</div>
    ${empty && limits ? html`<p class="hint fine">${limits} Formats: ${kinds}.</p>` : nothing}
  </div>`;
}

/** A file input that looks like a button. */
function chooser(app: App, id: string, label: string, folder: boolean): View {
  return html`<label class="button"
    ><input type="file" id=${id} multiple ?webkitdirectory=${folder} @change=${(event: Event) => take(app, event, false)} />${icon(
      folder ? "folder" : "files",
    )}<span>${label}</span></label
  >`;
}

function take(app: App, event: Event, reference: boolean): void {
  const input = event.currentTarget as HTMLInputElement;
  // the same files can be chosen again afterwards
  void app.take(event, reference).finally(() => {
    input.value = "";
  });
}

/** What is under way, what is incomplete, and what could not be sent. */
export function uploadsView(session: Session): View {
  const { uploads, incomplete } = session;
  const { active, failed } = uploads;
  const shown = active.filter(({ state }) => state !== "waiting");
  return html`
    ${active.length > 0
      ? html`<div class="card uploads" id="uploads">
          ${overall(session)}
          <ul class="files">
            ${repeat(shown, key, (upload) => sending(session, upload))}
          </ul>
        </div>`
      : nothing}
    ${failed.length > 0
      ? html`<ul class="card files" id="failed" aria-label="Files that were not sent">
          ${repeat(failed, key, (upload) => failure(session, upload))}
        </ul>`
      : nothing}
    ${incomplete.length > 0 ? incompleteView(session, incomplete) : nothing}
  `;
}

const key = ({ name }: Upload) => name;

function overall({ uploads }: Session): View {
  const { sent, total, secondsLeft } = uploads.progress;
  const { active } = uploads;
  const done = uploads.all.filter(({ state }) => state === "done").length;
  const lost = active.some(({ state }) => state === "retrying");
  const left = lost ? "the connection is lost, trying again" : secondsLeft === null ? "" : timeLeft(secondsLeft);
  return html`<p class="row">
      <strong id="upload-label">Sending ${count(done + active.length, "file")}</strong>
      <span class="hint">${done} sent, ${megabytes(sent)} of ${megabytes(total)}${left ? `, ${left}` : ""}</span>
    </p>
    <progress id="upload-progress" max="1" .value=${total > 0 ? sent / total : 0} aria-labelledby="upload-label"></progress>`;
}

function sending(session: Session, upload: Upload): View {
  const { name, sent, file, state } = upload;
  const words = state === "retrying" ? "trying again" : percent(file.size > 0 ? sent / file.size : 0);
  return html`<li data-name=${name}>
    <span class="name" title=${name}>${lastName(name)}</span>
    <progress max="1" .value=${sent / Math.max(1, file.size)} aria-label=${name}></progress>
    <span class="hint figure">${words}</span>
    <button
      type="button"
      class="quiet"
      aria-label=${`Do not send ${name}`}
      @click=${() => {
        session.uploads.drop(upload);
        if (upload.id !== null) void session.removeFiles([upload.id]);
      }}
    >
      ${icon("close")}
    </button>
  </li>`;
}

function failure(session: Session, upload: Upload): View {
  return html`<li data-name=${upload.name}>
    <span class="name" title=${upload.name}>${lastName(upload.name)}</span>
    ${problem(upload.problem)}
    <button type="button" class="quiet" aria-label=${`Dismiss ${upload.name}`} @click=${() => session.uploads.drop(upload)}>
      ${icon("close")}
    </button>
  </li>`;
}

/** After a reload the page has no hold of the files any more: the person has to hand them over again. */
function incompleteView(session: Session, incomplete: SessionFile[]): View {
  return html`<div class="card warning" id="incomplete">
    <p>
      <strong>${count(incomplete.length, "file is", "files are")} incomplete.</strong>
      Drop the same ${incomplete.length === 1 ? "file" : "folder"} again, and sending goes on where it stopped.
    </p>
    <ul class="files">
      ${incomplete.map(
        ({ id, name, received, bytes }) =>
          html`<li data-file=${id} data-name=${name}>
            <span class="name" title=${name}>${lastName(name)}</span>
            <progress max="1" .value=${received / bytes} aria-label=${name}></progress>
            <span class="hint figure">${percent(received / bytes)} of ${megabytes(bytes)}</span>
          </li>`,
      )}
    </ul>
    <button type="button" class="small" @click=${() => session.removeFiles(incomplete.map(({ id }) => id))}>
      Go on without ${incomplete.length === 1 ? "it" : "them"}
    </button>
  </div>`;
}

/** Files that are no rows of the table: what could not be used, with the reason. */
export function otherFilesView(session: Session): View {
  const rows = new Set(session.table?.tracks.map(({ file }) => file));
  const files = session.state?.files ?? [];
  const shown = files.filter((file) => !rows.has(file.id) && file.kind !== "reference" && file.problem !== null);
  if (shown.length === 0) return nothing;
  return html`<ul class="card files" id="unusable" aria-label="Files that cannot be used">
    ${shown.map(
      ({ id, name, problem: text }) =>
        html`<li data-file=${id} data-name=${name}>
          <span class="name" title=${name}>${lastName(name)}</span>
          ${problem(besides(name, text!))}
          <button type="button" class="small" aria-label=${`Remove ${name}`} @click=${() => session.removeFiles([id])}>
            Remove
          </button>
        </li>`,
    )}
  </ul>`;
}

export function listeningView(session: Session): View {
  const { listening, files } = session.state ?? {};
  if (!listening) return nothing;
  const before = listening.state === "queued" && listening.position > 0 ? `, ${listening.position} before it` : "";
  const tracks = files?.filter(({ kind }) => kind === "track").length ?? 0;
  return html`<div class="card" id="listening">
    <p><strong id="listening-label">Listening to ${count(tracks, "track")}${before}</strong></p>
    <progress max="1" .value=${listening.fraction} aria-labelledby="listening-label"></progress>
  </div>`;
}

/** Songs to sound like: chosen for a mix below. */
export function referencesView(app: App): View {
  const { session } = app;
  const files = session?.state?.files.filter(({ kind }) => kind === "reference") ?? [];
  return html`<div class="references">
    <label class="button small"
      ><input type="file" id="reference-file" @change=${(event: Event) => take(app, event, true)} />${icon("add")}<span
        >Add a reference song</span
      ></label
    >
    ${files.length > 0
      ? html`<ul class="files" aria-label="Reference songs">
          ${files.map(
            ({ id, name, problem: text, seconds, sample_rate }) =>
              html`<li data-file=${id} data-name=${name}>
                <span class="name" title=${name}>${lastName(name)}</span>
                ${text
                  ? problem(besides(name, text))
                  : html`<span class="hint"
                      >${seconds === undefined ? "" : clock(seconds)}${sample_rate === undefined
                        ? ""
                        : `, ${kilohertz(sample_rate)}`}</span
                    >`}
                <button type="button" class="quiet" aria-label=${`Remove ${name}`} @click=${() => session!.removeFiles([id])}>
                  ${icon("close")}
                </button>
              </li>`,
          )}
        </ul>`
      : nothing}
  </div>`;
}
