// npm `openai`, chat completions.

import OpenAI, { toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import {
  AS_JSON, AT_PROVIDER, EMBEDDER, HEARER, HELLO, IMAGE, KEY, MODEL, NO_MODEL, PAINTER, PARALLEL,
  PIXEL, SCHEMA, SPEAKER, URL, WEATHER, equal, raises, run,
} from "./cases.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const tool = { type: "function", function: { name: "weather", parameters: SCHEMA } };
const user = (content) => ({ role: "user", content });
const ask = (content, more) =>
  client.chat.completions.create({ model: MODEL, messages: [user(content)], ...more });

await run({
  async chat() {
    const answer = await ask(HELLO);
    equal(answer.choices[0].message.content, HELLO);
    equal(answer.usage.total_tokens > 0, true);
  },
  async stream() {
    let text = "";
    for await (const chunk of await ask(HELLO, { stream: true }))
      text += chunk.choices[0]?.delta.content ?? "";
    equal(text, HELLO);
  },
  async tools() {
    const message = (await ask("the weather", { tools: [tool] })).choices[0].message;
    const [call] = message.tool_calls;
    const messages = [
      user("the weather"), message, { role: "tool", tool_call_id: call.id, content: "rain" },
    ];
    const last = await client.chat.completions.create({ model: MODEL, messages, tools: [tool] });
    equal(last.choices[0].message.content, "rain");
  },
  async "parallel tools"() {
    const messages = [user("the weather")];
    const events = client.chat.completions.stream({ model: PARALLEL, messages, tools: [tool] });
    equal((await events.finalMessage()).tool_calls.length, 2);
  },
  async structured() {
    const shape = z.object({ city: z.string(), degrees: z.number() });
    const answer = await client.chat.completions.parse({
      model: MODEL, messages: [user(AS_JSON)], response_format: zodResponseFormat(shape, "weather"),
    });
    equal(answer.choices[0].message.parsed, WEATHER);
  },
  async vision() {
    const image = { type: "image_url", image_url: { url: IMAGE } };
    const answer = await ask([{ type: "text", text: HELLO }, image]);
    equal(answer.choices[0].message.content, HELLO);
  },
  async embeddings() {
    const found = await client.embeddings.create({ model: EMBEDDER, input: ["a", "b"] });
    equal(found.data.length, 2);
    equal(typeof found.data[0].embedding[0], "number");
  },
  async images() {
    const wanted = { model: PAINTER, prompt: "a pixel", response_format: "b64_json" };
    const made = await client.images.generate(wanted);
    equal(made.data.map((image) => image.b64_json), [PIXEL]);
  },
  async speech() {
    const answer = await client.audio.speech.create({ model: SPEAKER, voice: "alloy", input: HELLO });
    const sound = Buffer.from(await answer.arrayBuffer());
    equal(sound.subarray(0, 3).toString(), "ID3");
  },
  async transcription() {
    const file = await toFile(Buffer.from("ID3"), "hello.mp3");
    const heard = await client.audio.transcriptions.create({ model: HEARER, file });
    equal(heard.text, "one two");
  },
  async files() {
    const headers = AT_PROVIDER;
    const content = '{"custom_id": "1"}\n';
    const file = await toFile(Buffer.from(content), "in.jsonl");
    const made = await client.files.create({ file, purpose: "batch" }, { headers });
    const names = [];
    for await (const one of client.files.list({}, { headers }))
      if (one.id === made.id) names.push(one.filename);
    equal(names, ["in.jsonl"]);
    equal(await (await client.files.content(made.id)).text(), content);
    equal((await client.files.delete(made.id)).deleted, true);
    await raises(OpenAI.NotFoundError, () => client.files.retrieve(made.id));
  },
  async errors() {
    const missing = () => ask("a", { model: NO_MODEL });
    equal((await raises(OpenAI.NotFoundError, missing)).code, "model_not_found");
    const stranger = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "sk_ops_wrong", maxRetries: 0 });
    await raises(OpenAI.AuthenticationError, () => stranger.models.list());
  },
});
