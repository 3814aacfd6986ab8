/** The way through the test: welcome, questions, one page a song, remarks, and the answers' delivery. */

import { download, post } from "./answers";
import { loadClip } from "./clips";
import { Player } from "./player";
import { Keeper, type Progress, resultOf, type Stage } from "./progress";
import { element, make, readTest } from "./test";
import { TrialPage } from "./trial";

const MINUTES_PER_TRIAL = 4;

const test = readTest();
const player = new Player(test.sampleRate);
const keeper = new Keeper(test);
keeper.onFailure = () => {
  element("notice").hidden = false;
  element("notice").textContent =
    "This browser does not keep your progress: please finish the test without closing or reloading this page.";
};
let progress: Progress = keeper.load();
let trialPage: TrialPage | null = null;

function save(): void {
  keeper.save(progress);
}

function now(): string {
  return new Date().toISOString();
}

function currentTrial(): number {
  return progress.trials.findIndex(({ finished }) => finished === null);
}

function go(stage: Stage): void {
  progress.stage = stage;
  save();
  show();
}

function show(): void {
  trialPage?.close();
  trialPage = null;
  for (const section of document.querySelectorAll<HTMLElement>("main > section")) {
    section.hidden = section.id !== { trials: "trial" }[progress.stage as string] && section.id !== progress.stage;
  }
  showProgress();
  if (progress.stage === "trials") showTrial();
  if (progress.stage === "done") showDelivery();
  window.scrollTo(0, 0);
  document.querySelector<HTMLElement>("main > section:not([hidden]) h1, main > section:not([hidden]) h2")?.focus();
}

function showProgress(): void {
  const total = progress.trials.length;
  const done = progress.trials.filter(({ finished }) => finished !== null).length;
  const bar = element<HTMLProgressElement>("progress");
  bar.max = total;
  bar.value = done;
  element("progress-text").textContent =
    progress.stage === "trials" ? `Song ${done + 1} of ${total}` : done === total ? "All songs rated" : `${total} songs`;
}

function showTrial(): void {
  const at = currentTrial();
  const trial = progress.trials[at];
  if (trial === undefined) {
    go("remarks");
    return;
  }
  trial.started ??= now();
  save();
  element("trial-title").textContent = `Song ${at + 1} of ${progress.trials.length}`;
  trialPage = new TrialPage(test, trial, player, {
    changed: save,
    finished: () => {
      trial.finished = now();
      save();
      show();
    },
  });
}

function setUpWelcome(): void {
  const mixes = test.trials[0]!.clips.length;
  const minutes = MINUTES_PER_TRIAL * progress.trials.length;
  element("extent").textContent =
    `You will hear ${progress.trials.length} songs, each in ${mixes} mixes. ` +
    `Plan about ${minutes} minutes; you can close the page at any time and go on later in the same browser.`;
  element("attributes").replaceChildren(
    ...test.attributes.flatMap(({ title, question }) => [make("dt", "", title), make("dd", "", question)]),
  );
  element("begin").addEventListener("click", () => {
    player.stop();
    progress.started ??= now();
    go("questions");
  });
  element("references-step").hidden = test.trials.every(({ references }) => references.length === 0);
  setUpVolume();
}

/** One mix to set the volume by: all have the same loudness. */
function setUpVolume(): void {
  const button = element<HTMLButtonElement>("volume");
  let loaded = false;
  button.addEventListener("click", async () => {
    if (player.playing) {
      player.stop();
    } else {
      try {
        const clip = progress.trials[0]!.draw.order[0]!;
        if (!loaded) {
          const buffer = await player.decode(await loadClip(clip));
          if (progress.stage !== "welcome") return; // the player belongs to the songs from then on
          player.load(new Map([[clip, buffer]]));
          loaded = true;
        }
        player.select(clip);
        await player.play();
      } catch (error) {
        element("volume-problem").textContent =
          `The sound cannot be played: ${error instanceof Error ? error.message : String(error)}.`;
      }
    }
    button.textContent = player.playing ? "Stop" : "Play a mix";
  });
}

function setUpQuestions(): void {
  const form = element<HTMLFormElement>("questions-form");
  const fill = (id: string, options: Record<string, string>) =>
    element(id).append(
      ...Object.entries(options).map(([value, words]) => {
        const option = make("option", "", words);
        option.value = value;
        return option;
      }),
    );
  fill("role", test.roles);
  fill("device", test.devices);
  element<HTMLInputElement>("code").value = progress.participant.code;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const answers = new FormData(form);
    const text = (name: string) => String(answers.get(name) ?? "").trim();
    progress.participant = {
      ...progress.participant,
      code: text("code"),
      experience_years: Number(text("experience_years")),
      role: text("role"),
      device: text("device"),
      device_model: text("device_model"),
    };
    go("trials");
  });
}

function setUpRemarks(): void {
  const comment = element<HTMLTextAreaElement>("comment");
  comment.value = progress.comment;
  comment.addEventListener("input", () => {
    progress.comment = comment.value;
    save();
  });
  element("finish").addEventListener("click", () => {
    progress.finished ??= now();
    go("done");
  });
}

function setUpDelivery(): void {
  element("download").addEventListener("click", () => download(resultOf(test, progress)));
  element("send-again").addEventListener("click", () => void deliver());
  element("restart").addEventListener("click", () => {
    if (!window.confirm("Remove these answers from this browser and begin anew, for another participant?")) return;
    keeper.forget();
    const address = new URL(location.href);
    address.searchParams.delete("participant"); // the code is that of the one who has finished
    address.hash = ""; // with it, this page would be scrolled instead of loaded anew
    location.replace(address);
  });
}

function showDelivery(): void {
  if (test.postTo !== null && !progress.delivered) void deliver();
  else showDelivered();
}

function showDelivered(): void {
  element("send-again").hidden = true;
  element("delivery").textContent =
    test.postTo === null
      ? "Please download your answers and send the file to whoever invited you."
      : "Your answers were sent. Nothing else is to be done.";
  element("download").classList.toggle("primary", test.postTo === null);
}

async function deliver(): Promise<void> {
  element("send-again").hidden = true;
  element("delivery").textContent = "Sending your answers …";
  try {
    await post(test, resultOf(test, progress));
    progress.delivered = true;
    save();
    showDelivered();
  } catch (error) {
    element("delivery").textContent =
      `Your answers could not be sent: ${(error as Error).message}. They are kept in this browser. ` +
      "Try again, or download them and send the file to whoever invited you.";
    element("send-again").hidden = false;
    element("download").classList.add("primary");
  }
}

setUpWelcome();
setUpQuestions();
setUpRemarks();
setUpDelivery();
show();
