// What the programs of clients share: where the gateway is, and how a case is told.

export const URL = process.env.GATEWAY_URL;
export const KEY = process.env.GATEWAY_KEY;
export const MODEL = "ops/echo"; // repeats what it is told, and calls the tool that is named
export const PARALLEL = "clients/tools"; // calls the first tool twice
export const EMBEDDER = "clients/embed";
export const PAINTER = "clients/image";
export const SPEAKER = "clients/speech";
export const HEARER = "clients/hearing";
export const AT_PROVIDER = { "X-Ops-Provider": "mock" }; // where files lie, where several could keep them
export const NO_MODEL = "clients/none";
export const HELLO = "hello, world";
export const WEATHER = { city: "Oslo", degrees: 3 };
export const AS_JSON = JSON.stringify(WEATHER); // repeated, it is an answer of the wanted shape
export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const IMAGE = `data:image/png;base64,${PIXEL}`;

export function equal(found, wanted) {
  const [one, two] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== two) throw new Error(`${one} instead of ${two}`);
}

export async function raises(kind, call) {
  try {
    await call();
  } catch (problem) {
    if (problem instanceof kind) return problem;
    throw problem;
  }
  throw new Error(`${kind.name} was not thrown`);
}

export async function run(cases) {
  for (const [name, one] of Object.entries(cases)) {
    let problem = "";
    try {
      await one();
    } catch (caught) {
      problem = `${caught?.name}: ${caught?.message}`.replaceAll(/\s+/g, " ").slice(0, 300);
    }
    console.log(JSON.stringify({ case: name, problem }));
  }
}
