"use strict";

const FADE_SECONDS = 0.01;
const LEAD_SECONDS = 0.05; // until sources that are started together sound
let context = null;
let current = null;

/** Plays all mixes of a song at once and lets one of them through, so that a switch neither jumps nor waits. */
class Player {
  constructor(element) {
    this.element = element;
    this.data = JSON.parse(element.querySelector("script").textContent);
    this.duration = this.data.seconds;
    this.active = 0;
    this.matched = true;
    this.playing = false;
    this.offset = 0;
    this.startedAt = 0;
    this.sources = [];
    this.gains = [];
    this.button = element.querySelector("button");
    this.seek = element.querySelector("input[type=range]");
    this.clock = element.querySelector("output");
    this.canvas = element.querySelector("canvas");
    this.radios = [...element.querySelectorAll("input[type=radio]")];
    this.button.addEventListener("click", () => this.toggle());
    this.seek.addEventListener("input", () => this.moveTo(Number(this.seek.value)));
    element.querySelector("input[type=checkbox]").addEventListener("change", (event) => {
      this.matched = event.target.checked;
      this.applyGains();
      this.draw();
    });
    this.radios.forEach((radio, index) => radio.addEventListener("change", () => this.choose(index)));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.radios[0].checked = true;
    this.show();
  }

  /** Seconds since the excerpt's start. */
  position() {
    if (!this.playing) return this.offset;
    return (this.offset + Math.max(0, context.currentTime - this.startedAt)) % this.duration;
  }

  /** The factor with which a mix is played while it is the chosen one. */
  level(index) {
    return this.matched ? 10 ** (this.data.mixes[index].gain_db / 20) : 1;
  }

  async toggle() {
    try {
      if (this.playing) this.pause();
      else await this.play();
    } catch (error) {
      this.element.querySelector(".problem").textContent = `This browser cannot play the excerpts (${error.message}).`;
    }
  }

  async play() {
    if (current && current !== this) current.rest();
    current = this;
    context ??= new AudioContext();
    await context.resume();
    this.buffers ??= await Promise.all(this.data.mixes.map((mix) => decode(mix.audio)));
    if (this.playing) return;
    if (current !== this) return this.rest();
    this.duration = Math.min(this.data.seconds, ...this.buffers.map((buffer) => buffer.duration));
    this.playing = true;
    this.start();
    this.show();
  }

  start() {
    this.startedAt = context.currentTime + LEAD_SECONDS;
    this.gains = this.buffers.map((_, index) => {
      const gain = new GainNode(context, { gain: 0 });
      gain.gain.setValueAtTime(0, this.startedAt);
      gain.gain.linearRampToValueAtTime(index === this.active ? this.level(index) : 0, this.startedAt + FADE_SECONDS);
      gain.connect(context.destination);
      return gain;
    });
    this.sources = this.buffers.map((buffer, index) => {
      const source = new AudioBufferSourceNode(context, { buffer, loop: true, loopStart: 0, loopEnd: this.duration });
      source.connect(this.gains[index]);
      source.start(this.startedAt, this.offset);
      return source;
    });
  }

  stop() {
    const end = context.currentTime + FADE_SECONDS;
    this.gains.forEach((node) => ramp(node, 0));
    this.sources.forEach((source, index) => {
      const gain = this.gains[index];
      source.onended = () => gain.disconnect();
      source.stop(end);
    });
    this.sources = [];
    this.gains = [];
  }

  pause() {
    if (!this.playing) return;
    this.offset = this.position();
    this.playing = false;
    this.stop();
    this.show();
  }

  /** Pauses, and lets go of the decoded mixes: those of every song together would fill the memory. */
  rest() {
    this.pause();
    this.buffers = undefined;
  }

  moveTo(seconds) {
    if (!current || !current.playing) current = this;
    this.offset = Math.min(Math.max(0, seconds), this.duration - 0.01);
    if (this.playing) {
      this.stop();
      this.start();
    }
    this.show();
  }

  choose(index) {
    if (index < 0 || index >= this.radios.length) return;
    if (!current || !current.playing) current = this;
    this.active = index;
    this.radios[index].checked = true;
    this.applyGains();
    this.draw();
  }

  applyGains() {
    this.gains.forEach((node, index) => ramp(node, index === this.active ? this.level(index) : 0));
  }

  show() {
    this.element.dataset.state = this.playing ? "playing" : "paused";
    this.button.textContent = this.playing ? "Pause" : "Play";
    const position = this.position();
    this.seek.value = position;
    this.seek.setAttribute("aria-valuetext", `${position.toFixed(1)} s of ${this.duration.toFixed(1)} s`);
    this.clock.textContent = `${clock(position)} / ${clock(this.duration)}`;
    this.draw();
    if (this.playing) requestAnimationFrame(() => this.show());
  }

  draw() {
    const scale = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * scale);
    const height = Math.round(this.canvas.clientHeight * scale);
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const paint = this.canvas.getContext("2d");
    const style = getComputedStyle(this.radios[this.active].closest(".row"));
    const { low, high } = this.data.mixes[this.active];
    const played = (this.position() / this.duration) * width;
    const loudest = Math.max(1, ...this.data.mixes.map((mix, index) => peak(mix) * this.level(index)));
    const step = (this.level(this.active) / loudest) * (height / 2);
    paint.clearRect(0, 0, width, height);
    for (let column = 0; column < low.length; column++) {
      const left = (column / low.length) * width;
      paint.globalAlpha = left < played ? 1 : 0.35;
      paint.fillStyle = style.getPropertyValue("--system");
      const top = height / 2 - high[column] * step;
      paint.fillRect(left, top, width / low.length + 0.5, Math.max(scale, (high[column] - low[column]) * step));
    }
    paint.globalAlpha = 1;
    paint.fillStyle = getComputedStyle(this.canvas).color;
    paint.fillRect(Math.round(played), 0, scale, height);
  }
}

function ramp(node, level) {
  const now = context.currentTime;
  node.gain.cancelScheduledValues(now);
  node.gain.setValueAtTime(node.gain.value, now);
  node.gain.linearRampToValueAtTime(level, now + FADE_SECONDS);
}

function peak(mix) {
  mix.peak ??= Math.max(...mix.high, ...mix.low.map((value) => -value));
  return mix.peak;
}

function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return context.decodeAudioData(bytes.buffer);
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
}

const players = [...document.querySelectorAll(".player")].map((element) => new Player(element));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, textarea")) return;
  const own = event.target.closest(".player");
  const player = players.find((candidate) => candidate.element === own) || current || players[0];
  if (!player) return;
  if (event.key === " " && !event.target.closest("button, summary, a, input[type=checkbox]")) {
    event.preventDefault();
    player.toggle();
  } else if (/^[1-9]$/.test(event.key)) {
    player.choose(Number(event.key) - 1);
  }
});

/** One metric of all songs: rows are songs, columns systems; a click on a heading sorts. */
class SongTable {
  constructor(element) {
    this.element = element;
    this.data = JSON.parse(element.querySelector("script").textContent);
    this.body = element.querySelector("tbody");
    this.headings = [...element.querySelectorAll("th[data-column]")];
    this.select = element.querySelector("select");
    this.select.addEventListener("change", () => this.fill());
    this.headings.forEach((heading) => heading.querySelector("button").addEventListener("click", () => this.sort(heading)));
  }

  fill() {
    const metric = this.data.metrics[this.select.value];
    for (const row of this.body.rows) {
      [...row.cells].slice(1).forEach((cell, index) => {
        const value = metric.values[row.dataset.song]?.[this.data.systems[index]];
        cell.dataset.value = value ?? "";
        cell.textContent = value === undefined ? "\u2013" : format(value * metric.scale, metric.digits);
      });
    }
    const sorted = this.headings.find((heading) => heading.hasAttribute("aria-sort"));
    if (sorted) this.order(sorted, sorted.getAttribute("aria-sort") === "descending");
  }

  sort(heading) {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    this.headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    this.order(heading, descending);
  }

  order(heading, descending) {
    const column = Number(heading.dataset.column);
    const key = (row) => row.cells[column].dataset.value;
    const sign = descending ? -1 : 1;
    const compare = (first, second) => {
      if (column === 0) return sign * key(first).localeCompare(key(second));
      // songs without a value come last either way
      if (key(first) === "" || key(second) === "") return (key(first) === "") - (key(second) === "");
      return sign * (Number(key(first)) - Number(key(second)));
    };
    const rows = [...this.body.rows].sort(compare);
    this.body.append(...rows);
  }
}

function format(value, digits) {
  return value.toFixed(digits).replace("-", "\u2212");
}

const songTables = [...document.querySelectorAll(".songs")].map((element) => new SongTable(element));
