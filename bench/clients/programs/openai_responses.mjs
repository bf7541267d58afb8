// npm `openai`, responses.

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import {
  AS_JSON, HELLO, IMAGE, KEY, MODEL, NO_MODEL, PARALLEL, SCHEMA, URL, WEATHER,
  equal, raises, run,
} from "./cases.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const tools = [{ type: "function", name: "weather", parameters: SCHEMA, strict: true }];
const ask = (input, more) => client.responses.create({ model: MODEL, input, ...more });

await run({
  async chat() {
    const answer = await ask(HELLO);
    equal(answer.output_text, HELLO);
    equal(answer.usage.total_tokens > 0, true);
  },
  async stream() {
    const events = client.responses.stream({ model: MODEL, input: HELLO });
    equal((await events.finalResponse()).output_text, HELLO);
  },
  async tools() {
    const input = [{ role: "user", content: "the weather" }];
    const answer = await ask(input, { tools });
    const [call] = answer.output;
    input.push(...answer.output);
    input.push({ type: "function_call_output", call_id: call.call_id, output: "rain" });
    equal((await ask(input, { tools })).output_text, "rain");
  },
  async "parallel tools"() {
    const events = client.responses.stream({ model: PARALLEL, input: "the weather", tools });
    const response = await events.finalResponse();
    equal(response.output.map((item) => item.type), ["function_call", "function_call"]);
  },
  async structured() {
    const shape = z.object({ city: z.string(), degrees: z.number() });
    const answer = await client.responses.parse({
      model: MODEL, input: AS_JSON, text: { format: zodTextFormat(shape, "weather") },
    });
    equal(answer.output_parsed, WEATHER);
  },
  async vision() {
    const image = { type: "input_image", image_url: IMAGE, detail: "auto" };
    const content = [{ type: "input_text", text: HELLO }, image];
    equal((await ask([{ role: "user", content }])).output_text, HELLO);
  },
  async errors() {
    const missing = () => ask("a", { model: NO_MODEL });
    equal((await raises(OpenAI.NotFoundError, missing)).code, "model_not_found");
  },
});
