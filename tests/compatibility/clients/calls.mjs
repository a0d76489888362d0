// What is asked of OpenAI's Node SDK, in an environment that holds nothing else.
//
// Run as `calls.mjs visit|repeat|twins FOLDER`, FOLDER being the one with the client's
// node_modules; prints one JSON document of what it saw. Where and with which key stands in the
// environment, as for calls.py, and the two print the same names.

import { createHash } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";

const [task, folder] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const sdk = require("openai");
const { version } = JSON.parse(fs.readFileSync(`${folder}/node_modules/openai/package.json`));
const { OpenAI, toFile, toStreamingFile } = sdk;

const urls = process.env.BASE_URLS.split(",");
const apiKey = process.env.API_KEY;
const picture = process.env.PICTURE;
const isNew = Number(version.split(".")[0]) >= 7; // 6.2.0 has no edits, extensions, characters
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const connect = (url, options = {}) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, ...options });

async function every(pages) {
  const ids = [];
  for await (const video of pages) ids.push(video.id);
  return ids;
}

async function download(client, id) {
  const answer = await client.videos.downloadContent(id);
  return createHash("sha256").update(Buffer.from(await answer.arrayBuffer())).digest("hex");
}

async function told(step, client) {
  try {
    return await step(client);
  } catch (error) {
    const { status, code, param, type, message } = error;
    return {
      raised: error.constructor.name, status, code, param, type, message,
      request_id: error.requestID,
    };
  }
}

async function page(client, query) {
  const answer = await client.videos.list(query);
  const { object, first_id } = answer.body ?? {};
  return {
    object, first_id, ids: answer.data.map((video) => video.id),
    has_more: answer.has_more, last_id: answer.last_id,
  };
}

async function statuses(client, id) {
  const words = [];
  while (!words.length || ["queued", "in_progress", "submitted"].includes(words.at(-1))) {
    const { status } = await client.videos.retrieve(id);
    if (status !== words.at(-1)) words.push(status);
    await sleep(50);
  }
  return words;
}

async function visit() {
  const client = connect(urls[0]);
  const tag = version;
  const made = [];
  const seen = { version, node: process.version };
  const note = async (name, step, other) => {
    const got = (seen[name] = await told(step, other ?? client));
    if (got?.object === "video" && !made.includes(got.id)) made.push(got.id);
    return got;
  };
  const create = (c, body) => c.videos.create(body);
  const polled = async (c, body) => {
    const { id } = await c.videos.create(body);
    await statuses(c, id);
    return c.videos.retrieve(id);
  };
  const image = fs.readFileSync(picture);
  const image_url = `data:image/png;base64,${image.toString("base64")}`;

  const first = await note("create_default", (c) => create(c, { prompt: `default ${tag}` }));
  await note("create_all", (c) =>
    create(c, { prompt: `all ${tag}`, model: "sora-2", size: "720x1280", seconds: "15" }));
  await note("create_path", async (c) =>
    create(c, { prompt: `path ${tag}`, input_reference: await toFile(fs.createReadStream(picture), "picture.png", { type: "image/png" }) }));
  await note("create_stream", (c) =>
    create(c, { prompt: `stream ${tag}`, input_reference: fs.createReadStream(picture) }));
  await note("create_buffer", async (c) =>
    create(c, { prompt: `buffer ${tag}`, input_reference: await toFile(image, "picture.bin") }));
  await note("create_object", (c) =>
    create(c, { prompt: `object ${tag}`, input_reference: { image_url } }));
  if (toStreamingFile)
    await note("create_streaming", (c) =>
      create(c, { prompt: `streaming ${tag}`, input_reference: toStreamingFile(fs.createReadStream(picture), "picture.png") }));

  await note("retrieve", (c) => c.videos.retrieve(made.at(-1)));
  const early = await note("create_early", (c) => create(c, { prompt: `early ${tag}` }));
  await note("not_ready", (c) => download(c, early.id));

  await note("all_asc", (c) => every(c.videos.list({ limit: 2, order: "asc" })));
  await note("all_desc", (c) => every(c.videos.list({ limit: 3, order: "desc" })));
  await note("all_default", (c) => every(c.videos.list()));
  await note("page", (c) => page(c, { limit: 2 }));
  await note("page_empty", (c) => page(c, { after: made.at(-1), order: "asc" }));
  seen.made = [...made];
  await note("delete_waiting", async (c) => {
    const gone = [];
    for (const id of made.slice(1)) gone.push(await c.videos.delete(id));
    return gone;
  });

  await note("statuses", (c) => statuses(c, first.id));
  await note("content", (c) => download(c, first.id));
  await note("done", (c) => c.videos.retrieve(first.id));
  await note("thumbnail", (c) => c.videos.downloadContent(first.id, { variant: "thumbnail" }));
  await note("with_picture", (c) =>
    polled(c, { prompt: `picture ${tag}`, input_reference: fs.createReadStream(picture) }));
  await note("with_picture_content", (c) => download(c, seen.with_picture.id));
  await note("failed", (c) => polled(c, { prompt: `sandbox:policy ${tag}` }));

  await note("delete", (c) => c.videos.delete(first.id));
  await note("deleted", (c) => c.videos.retrieve(first.id));
  await note("left", (c) => every(c.videos.list({ limit: 100 })));

  await note("unknown_id", (c) => c.videos.retrieve("video_of_nobody"));
  await note("bad_size", (c) => create(c, { prompt: "Big", size: "1792x1024" }));
  await note("bad_model", (c) => create(c, { prompt: "Pro", model: "sora-2-pro" }));
  await note("bad_file", async (c) =>
    create(c, { prompt: "No", input_reference: await toFile(Buffer.from("no picture"), "no.png") }));
  await note("no_prompt", (c) => create(c, { prompt: "" }));
  await note("far_image", (c) =>
    create(c, { prompt: "Far", input_reference: { image_url: "http://127.0.0.1/picture.png" } }));
  const other = seen.with_picture.id;
  await note("remix", (c) => c.videos.remix(other, { prompt: "Again" }));
  if (isNew) {
    const video = { id: other };
    await note("edit", (c) => c.videos.edit({ prompt: "x", video }));
    await note("extend", (c) => c.videos.extend({ prompt: "x", seconds: "4", video }));
    await note("character", (c) => c.videos.getCharacter("char_1"));
    await note("create_character", async (c) =>
      c.videos.createCharacter({ name: "x", video: await toFile(Buffer.from("x"), "x.mp4") }));
  }
  const stranger = connect(urls[0], { apiKey: "sk-wrong" });
  await note("wrong_key", (c) => c.videos.list(), stranger);
  await note("wrong_key_create", (c) => create(c, { prompt: "In" }), stranger);
  return seen;
}

// Create over lines that lose answers, with the SDK's own retries; first with a stream.
async function repeat() {
  const created = {};
  for (const [number, url] of urls.entries()) {
    const prompt = `repeated ${number} ${version}`;
    const input_reference = number
      ? await toFile(fs.readFileSync(picture), "picture.png")
      : fs.createReadStream(picture);
    created[prompt] = await told(
      async (c) => (await c.videos.create({ prompt, input_reference })).id,
      connect(url, { timeout: 1500 }),
    );
  }
  return { created, listed: await every(connect(urls.at(-1)).videos.list({ limit: 100 })) };
}

// The same video wanted twice at once, over each line.
async function twins() {
  const created = {};
  for (const [number, url] of urls.entries()) {
    const prompt = `twins ${number} ${version}`;
    const call = () => connect(url, { timeout: 1500 }).videos.create({ prompt });
    created[prompt] = (await Promise.all([call(), call()])).map((video) => video.id);
  }
  return { created, listed: await every(connect(urls.at(-1)).videos.list({ limit: 100 })) };
}

const tasks = { visit, repeat, twins };
process.stdout.write(JSON.stringify(await tasks[task]()));
