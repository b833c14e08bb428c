// Reads a message as JSON and writes it as MessagePack, in hexadecimal, one library and way of writing a line.
import { readFileSync } from "node:fs";
import * as official from "@msgpack/msgpack";
import lite from "msgpack-lite";
import * as msgpackr from "msgpackr";

const message = JSON.parse(readFileSync(0, "utf8"));
const big = { ...message, created_at: BigInt(message.created_at) };
const writers = {
  "msgpackr": () => msgpackr.pack(message),
  "msgpackr without records": () => new msgpackr.Packr({ useRecords: false }).pack(message),
  "msgpackr with BigInt": () => msgpackr.pack(big),
  "@msgpack/msgpack": () => official.encode(message),
  "@msgpack/msgpack with useBigInt64": () => official.encode(message, { useBigInt64: true }),
  "@msgpack/msgpack with useBigInt64 and BigInt": () => official.encode(big, { useBigInt64: true }),
  "@msgpack/msgpack with forceIntegerToFloat": () => official.encode(message, { forceIntegerToFloat: true }),
  "msgpack-lite": () => lite.encode(message),
};
for (const [name, write] of Object.entries(writers)) console.log(`${name}\t${Buffer.from(write()).toString("hex")}`);
