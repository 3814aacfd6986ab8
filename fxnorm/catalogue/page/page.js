"use strict";
// one mix plays at a time; the sheet is put in order and searched. Without scripts all of it can still be heard.
const sheet = document.getElementById("sheet");
if (sheet) {
  const mixes = [...sheet.querySelectorAll(".mix")];
  sheet.addEventListener("play", (event) => {
    for (const player of sheet.querySelectorAll("audio")) {
      if (player !== event.target) player.pause();
    }
  }, true);
  const falling = new Set(["worst", "seconds"]);
  document.getElementById("order").addEventListener("change", (event) => {
    const key = event.target.value;
    const sign = falling.has(key) ? -1 : 1;
    mixes.sort((one, other) => sign * (one.dataset[key] - other.dataset[key]) || one.dataset.name - other.dataset.name);
    sheet.append(...mixes);
  });
  document.getElementById("find").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const mix of mixes) mix.hidden = !mix.dataset.text.includes(wanted);
  });
}
