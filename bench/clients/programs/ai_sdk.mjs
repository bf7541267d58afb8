// The AI SDK (npm `ai`) over one of its providers: argument `chat`, `responses` or `messages`.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError, Output, embedMany, experimental_generateSpeech as generateSpeech,
  experimental_transcribe as transcribe, generateImage, generateText, jsonSchema, stepCountIs,
  streamText, tool,
} from "ai";
import {
  AS_JSON, EMBEDDER, HEARER, HELLO, IMAGE, KEY, MODEL, NO_MODEL, PAINTER, PIXEL, SCHEMA, SPEAKER,
  URL, WEATHER, equal, raises, run,
} from "./cases.mjs";

const baseURL = `${URL}/v1`;
const compatible = createOpenAICompatible({
  name: "gateway", baseURL, apiKey: KEY, supportsStructuredOutputs: true,
});
const providers = {
  chat: compatible,
  responses: createOpenAI({ baseURL, apiKey: KEY }),
  messages: createAnthropic({ baseURL, apiKey: KEY }),
};
const dialect = process.argv[2];
const provider = providers[dialect];
const ask = { model: provider(MODEL), maxRetries: 0 };
const weather = tool({
  description: "of a city", inputSchema: jsonSchema(SCHEMA), execute: async () => "rain",
});

const cases = {
  async chat() {
    const answer = await generateText({ ...ask, prompt: HELLO });
    equal(answer.text, HELLO);
    equal(answer.usage.outputTokens > 0, true);
  },
  async stream() {
    const { textStream } = streamText({ ...ask, prompt: HELLO, onError: ({ error }) => { throw error; } });
    let text = "";
    for await (const piece of textStream) text += piece;
    equal(text, HELLO);
  },
  async tools() {
    const answer = await generateText({
      ...ask, prompt: "the weather", tools: { weather }, stopWhen: stepCountIs(2),
    });
    equal(answer.steps.length, 2);
    equal(answer.text.includes("rain"), true);
  },
  async structured() {
    const output = Output.object({ schema: jsonSchema(SCHEMA) });
    const answer = await generateText({ ...ask, prompt: AS_JSON, output });
    equal(Object.keys(answer.output), Object.keys(WEATHER)); // by a tool where a model is unknown
  },
  async vision() {
    const content = [{ type: "text", text: HELLO }, { type: "image", image: IMAGE }];
    const answer = await generateText({ ...ask, messages: [{ role: "user", content }] });
    equal(answer.text, HELLO);
  },
  async errors() {
    const missing = () => generateText({ model: provider(NO_MODEL), maxRetries: 0, prompt: "a" });
    equal((await raises(APICallError, missing)).statusCode, 404);
  },
};
if (dialect === "chat") {
  cases.embeddings = async () => {
    const model = compatible.textEmbeddingModel(EMBEDDER);
    const { embeddings } = await embedMany({ model, values: ["a", "b"], maxRetries: 0 });
    equal(embeddings.length, 2);
  };
  cases.images = async () => {
    const model = compatible.imageModel(PAINTER);
    const { image } = await generateImage({ model, prompt: "a pixel", maxRetries: 0 });
    equal(image.base64, PIXEL);
  };
}
if (dialect === "responses") {
  cases.speech = async () => {
    const model = provider.speech(SPEAKER);
    const { audio } = await generateSpeech({ model, text: HELLO, voice: "alloy", maxRetries: 0 });
    equal(Buffer.from(audio.uint8Array).subarray(0, 3).toString(), "ID3");
  };
  cases.transcription = async () => {
    const model = provider.transcription(HEARER);
    const { text } = await transcribe({ model, audio: Buffer.from("ID3"), maxRetries: 0 });
    equal(text, "one two");
  };
}
await run(cases);
