// Bundles the page of the working folder into built/, or the folder named: the script, the style, the licences of what
// is in them, and a digest of the sources, by which a test tells when the bundle is older than they are. The same sources
// give the same bytes. The musicians' page (fxnorm/page/client) is bundled by it too.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const output = process.argv[2] ?? "built";
const { build } = createRequire(`${process.cwd()}/`)("esbuild"); // the page's own
const SOURCES = ["package-lock.json", "package.json", "tsconfig.json"];
const MARK = "node_modules/";
const page = JSON.parse(readFileSync("package.json", "utf8")).name.replace("fxnorm-", "").replaceAll("-", "_");

mkdirSync(output, { recursive: true });
const { metafile } = await build({
  entryPoints: ["src/main.ts", "src/page.css"].map((source) => ({ in: source, out: page })),
  outdir: output,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome100", "firefox100", "safari15.4"],
  charset: "utf8",
  legalComments: "none",
  metafile: true,
});

const packages = Object.keys(metafile.inputs).filter((path) => path.includes(MARK)).map(packageOf);
const licences = [...new Set(packages)].sort().map((name) => {
  const folder = `${MARK}${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (file === undefined) throw new Error(`${name} has no licence file`);
  return `${name} ${version} (${license})\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
});
writeFileSync(`${output}/licences.txt`, licences.join(`\n${"-".repeat(80)}\n\n`));

const digest = createHash("sha256").update("build.mjs\0").update(readFileSync(new URL(import.meta.url))).update("\0");
for (const path of [...SOURCES, ...readdirSync("src").map((name) => `src/${name}`)].sort()) {
  digest.update(`${path}\0`).update(readFileSync(path)).update("\0");
}
writeFileSync(`${output}/sources.sha256`, `${digest.digest("hex")}\n`);

function packageOf(path) {
  const parts = path.slice(path.lastIndexOf(MARK) + MARK.length).split("/");
  return parts.slice(0, parts[0].startsWith("@") ? 2 : 1).join("/");
}
