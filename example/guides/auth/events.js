// events yields the events of a response's body, as the HTML standard reads them (§9.2.6), except
// for the field retry. A block that only has an id yields an event without a name.
export async function* events(body) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "", afterCR = false, name = "", data = [], id = "", lastID = "";
	for (let piece; !(piece = await reader.read()).done;) {
		const text = afterCR && piece.value[0] === "\n" ? piece.value.slice(1) : piece.value;
		afterCR = piece.value.endsWith("\r"); // an LF that follows belongs to the same line break
		const lines = (rest + text).split(/\r\n|\n|\r/);
		rest = lines.pop(); // the line that has not ended yet
		for (const line of lines) {
			const [, field, value = ""] = line.match(/^([^:]*)(?:: ?(.*))?$/s);
			if (field === "event") name = value;
			if (field === "data") data.push(value);
			if (field === "id" && !value.includes("\0")) id = value;
			if (line !== "") continue;
			if (data.length > 0) yield { name: name || "message", data: data.join("\n"), id };
			else if (id !== lastID) yield { name: "", data: "", id };
			[name, data, lastID] = ["", [], id];
		}
	}
}
