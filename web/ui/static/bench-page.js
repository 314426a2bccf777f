// The page that measures: a form, and a table of figures.
import { Ocelli } from "./engine/index.js";
import { measure, median } from "./bench.js";

const find = (id) => document.getElementById(id);
const say = (text) => (find("state").textContent = text);

const ROWS = [
  ["Tokens of the prompt", (run) => run.prompt_tokens, 0],
  ["Tokens generated", (run) => run.generated_tokens, 0],
  ["Prompt, tokens a second", (run) => run.prefill_tokens_per_s, 1],
  ["Answer, tokens a second", (run) => run.decode_tokens_per_s, 1],
  ["Kernels started for a token", (run) => run.gpu?.dispatches, 1],
  ["Submits for a token", (run) => run.gpu?.submits, 1],
  ["Reads back for a token", (run) => run.gpu?.reads, 1],
  ["Bytes of weights read for a token", (run) => run.gpu?.weight_bytes, 0],
];

const shown = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });

function row(...cells) {
  const row = document.createElement("tr");
  row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  return row;
}

async function run() {
  const engine = find("engine").value;
  say("Loading …");
  const model = await Ocelli.load(find("source").value || "embedded", { engine });
  const runs = await measure(model, { onRun: (i, n) => say(`Run ${i} of ${n} …`) });
  const { info } = model;
  model.close();
  const body = find("figures").tBodies[0];
  body.replaceChildren(row("Loading, milliseconds", shown(info.load_ms, 0), ""));
  for (const [name, of, digits] of ROWS) {
    const values = runs.map(of).filter((value) => value != null);
    if (values.length === 0) continue;
    const all = values.map((value) => shown(value, digits)).join(", ");
    body.append(row(name, shown(median(values), digits), all));
  }
  find("figures").hidden = false;
  say(`${info.name}, ${info.engine.detail}, because ${info.engine.why}.`);
}

find("what").addEventListener("submit", async (event) => {
  event.preventDefault();
  find("measure").disabled = true;
  try {
    await run();
  } catch (error) {
    say(String(error.message ?? error));
  }
  find("measure").disabled = false;
});
