// How fast a loaded model answers, by its own account.

const WORDS =
  "Once upon a time a lighthouse keeper counted the ships that passed in the evening, wrote their names into a book, " +
  "and wondered where each of them was going and who was waiting for it there. ";

/** Prompts that begin differently, so that nothing of one is cached for the next. */
export const prompt = (i) => `Story number ${i + 1}. ${WORDS.repeat(5)} Write how the story goes on, in many words.`;

export const median = (values) => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];

/** Figures of `runs` answers of at most `tokens` tokens, after one that is not counted. */
export async function measure(model, { runs = 3, tokens = 33, onRun } = {}) {
  const figures = [];
  for (let i = 0; i <= runs; i += 1) {
    onRun?.(i, runs);
    const messages = [{ role: "user", content: prompt(i) }];
    const answer = await model.chat(messages, { maxTokens: i ? tokens : 2 }).answer();
    if (i === 0) continue;
    const read = answer.prompt_tokens - answer.cached_tokens;
    figures.push({
      prompt_tokens: read,
      generated_tokens: answer.generated_tokens,
      prefill_tokens_per_s: (1000 * read) / answer.prefill_ms,
      decode_tokens_per_s: (1000 * (answer.generated_tokens - 1)) / answer.decode_ms,
      gpu: answer.gpu,
    });
  }
  return figures;
}
