/** RACE (Lai et al. 2017, arXiv:1704.04683): English exams of Chinese schools. */
import { FormatError } from "../../errors.ts";
import { parsePythonLiteral, type PythonLiteral } from "../python-literal.ts";
import { createRow, type Row } from "../row.ts";
import { type ChoiceDocument, type ChoiceTask, type DataFile, defineTask } from "../task.ts";
import { inRange } from "./choices.ts";

const high: DataFile = {
  names: ["race_high"],
  hub: { dataset: "ehovy/race", config: "high", split: "test" },
};
const middle: DataFile = {
  names: ["race_middle"],
  hub: { dataset: "ehovy/race", config: "middle", split: "test" },
};

/** The paper and LLaMA count a question at a time. The prompt is ours, theirs are unpublished. */
function question(row: Row): ChoiceDocument {
  const { question, ...choices } = readProblem(row);
  return { context: `Article: ${readArticle(row)}\n\nQuestion: ${question}\nAnswer:`, ...choices };
}

/** Exams of middle schools, a question at a time. */
export const raceMiddle: ChoiceTask = defineTask({
  name: "race_middle",
  version: 1,
  kind: "choice",
  data: middle,
  document: question,
});

/** Exams of high schools, a question at a time. */
export const raceHigh: ChoiceTask = defineTask({
  name: "race_high",
  version: 1,
  kind: "choice",
  data: high,
  document: question,
});

/** The harness counts an article at a time: its last question stands after the others with their answers. */
function article(isCloze: (question: string) => boolean): (row: Row) => ChoiceDocument {
  return (row) => {
    const problems = row.has("problems") ? readProblems(row) : [readProblem(row)];
    const { question, ...choices } = problems.at(-1)!;
    const solved = problems.slice(0, -1).map((problem) => {
      const answer = problem.choices[problem.gold]!;
      return isCloze(problem.question)
        ? `${problem.question.slice(0, -5)}${answer}\n` // keeps one of the two spaces
        : `Question: ${problem.question}\nAnswer: ${answer}\n`;
    });
    return { context: `Article: ${readArticle(row)}\n\n${solved.join("")}${question}`, ...choices };
  };
}

const byArticle = {
  kind: "choice" as const,
  data: { names: ["race", "race_high"], hub: { dataset: "EleutherAI/race", config: "high", split: "test" } },
  prepare: groupArticles,
  drawsOneMore: false, // so an example may be the article itself
};

/** The harness's version 3: exams of high schools, an article at a time. */
export const race: ChoiceTask = defineTask({
  ...byArticle,
  name: "race",
  version: 3,
  document: article((question) => question.endsWith("  _  .")),
});

/** The harness's version 2. Up to 0.4.11 its test for a gap compared five characters with six: it never held. */
export const raceV2: ChoiceTask = defineTask({
  ...byArticle,
  name: "race@2",
  version: 2,
  document: article(() => false),
});

type Problem = { readonly question: string; readonly choices: readonly string[]; readonly gold: number };

function readArticle(row: Row): string {
  return row.text("article", "context");
}

function readProblem(row: Row): Problem {
  const choices = row.texts("options", "choices");
  const gold = row.has("gold") ? row.integer("gold") : "ABCD".indexOf(row.text("answer"));
  return { question: row.text("question"), ...inRange(row, { choices, gold }) };
}

function readProblems(row: Row): Problem[] {
  const { problems } = row.fields;
  const list: PythonLiteral =
    typeof problems === "string" ? parsePythonLiteral(problems, row.where) : (problems as PythonLiteral);
  if (!Array.isArray(list) || list.length === 0) {
    throw new FormatError(`${row.where}: "problems" must be a list with at least one question.`);
  }
  return createRow({ problems: list }, row.where).rows("problems").map(readProblem);
}

/** Files with a question in each row become articles, by `example_id`, in order of appearance. */
function groupArticles(rows: readonly Row[]): readonly Row[] {
  const articles = new Map<string, { row: Row; problems: object[] }>();
  for (const row of rows) {
    if (row.has("problems")) return rows;
    const key = row.has("example_id") ? row.text("example_id") : readArticle(row);
    const { question, choices, gold } = readProblem(row);
    const problem = { question, options: choices, gold };
    const article = articles.get(key);
    if (article) article.problems.push(problem);
    else articles.set(key, { row, problems: [problem] });
  }
  return [...articles.values()].map(({ row, problems }) =>
    createRow({ id: row.fields["id"], article: readArticle(row), problems }, row.where),
  );
}
