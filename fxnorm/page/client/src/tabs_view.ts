/** One tab a session, and one on which a new session begins. */

import { html } from "lit-html";
import { repeat } from "lit-html/directives/repeat.js";

import type { App } from "./app";
import { icon, type View } from "./view";

export function tabsView(app: App): View {
  const open = app.session?.id ?? null;
  const full = app.facts !== null && app.names.length >= app.facts.limits.sessions;
  return html`<div role="tablist" aria-label="Sessions" class="tabs" @keydown=${(event: KeyboardEvent) => move(event)}>
    ${repeat(
      app.names,
      ({ id }) => id,
      ({ id, name }) => tab(app, id, name, open === id),
    )}
    <button
      type="button"
      role="tab"
      id="tab-new"
      class="tab new"
      aria-selected=${open === null}
      aria-controls="panel"
      aria-label="New session"
      title=${full ? `There are ${app.names.length} sessions already: remove one first` : "New session"}
      tabindex=${open === null ? 0 : -1}
      ?disabled=${full}
      @click=${() => app.show(null)}
    >
      ${icon("add")}<span>New</span>
    </button>
  </div>`;
}

function tab(app: App, id: string, name: string, selected: boolean): View {
  return html`<button
    type="button"
    role="tab"
    id=${`tab-${id}`}
    class="tab"
    data-session=${id}
    aria-selected=${selected}
    aria-controls="panel"
    tabindex=${selected ? 0 : -1}
    @click=${() => app.show(id)}
  >
    ${name}
  </button>`;
}

/** Arrow keys, and the keys for the first and the last one. */
function move(event: KeyboardEvent): void {
  const list = event.currentTarget as HTMLElement;
  const tabs = [...list.querySelectorAll<HTMLButtonElement>("[role=tab]:not(:disabled)")];
  const at = tabs.indexOf(document.activeElement as HTMLButtonElement);
  const places: Record<string, number> = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 };
  const place = places[event.key];
  if (place === undefined || at < 0) return;
  event.preventDefault();
  const next = tabs[(place + tabs.length) % tabs.length]!;
  next.focus();
  next.click();
}
