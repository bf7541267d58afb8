// npm `@anthropic-ai/sdk`, messages.

import Anthropic from "@anthropic-ai/sdk";
import {
  AS_JSON, HELLO, KEY, MODEL, NO_MODEL, PARALLEL, PIXEL, SCHEMA, URL, WEATHER,
  equal, raises, run,
} from "./cases.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const tools = [{ name: "weather", description: "of a city", input_schema: SCHEMA }];
const asked = (content, more) => ({
  model: MODEL, max_tokens: 500, messages: [{ role: "user", content }], ...more,
});
const ask = (content, more) => client.messages.create(asked(content, more));

await run({
  async chat() {
    const answer = await ask(HELLO, { system: "Repeat it." });
    equal(answer.content[0].text, HELLO);
    equal(answer.usage.output_tokens > 0, true);
  },
  async stream() {
    const events = client.messages.stream(asked(HELLO));
    equal(await events.finalText(), HELLO);
    equal((await events.finalMessage()).usage.output_tokens > 0, true);
  },
  async tools() {
    const answer = await ask("the weather", { tools });
    const call = answer.content.find((block) => block.type === "tool_use");
    const messages = [
      { role: "user", content: "the weather" },
      { role: "assistant", content: answer.content },
      { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "rain" }] },
    ];
    equal((await ask("", { messages, tools })).content[0].text, "rain");
  },
  async "parallel tools"() {
    const events = client.messages.stream(asked("the weather", { model: PARALLEL, tools }));
    const { content } = await events.finalMessage();
    equal(content.map((call) => call.input.city), ["Zürich", "Oslo"]);
  },
  async structured() {
    const format = { type: "json_schema", schema: SCHEMA };
    const answer = await ask(AS_JSON, { output_config: { format } });
    equal(JSON.parse(answer.content[0].text), WEATHER);
  },
  async vision() {
    const source = { type: "base64", media_type: "image/png", data: PIXEL };
    const answer = await ask([{ type: "image", source }, { type: "text", text: HELLO }]);
    equal(answer.content[0].text, HELLO);
  },
  async "count tokens"() {
    const messages = [{ role: "user", content: HELLO }];
    const counted = await client.messages.countTokens({ model: MODEL, messages });
    equal(counted.input_tokens > 0, true);
  },
  async errors() {
    await raises(Anthropic.NotFoundError, () => ask("a", { model: NO_MODEL }));
    const stranger = new Anthropic({ baseURL: URL, apiKey: "sk_ops_wrong", maxRetries: 0 });
    await raises(Anthropic.AuthenticationError, () => stranger.messages.create(asked("a")));
  },
});
