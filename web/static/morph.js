// Makes what is on the page like what has come, and touches nothing that is the same: focus, selection and open details stay.

// `fresh` is of another document and may be taken apart. What has data-keep belongs to a script, and is left alone.
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || idOf(old) !== idOf(fresh)) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-keep")) return;
  attributes(old, fresh);
  const was = [...old.childNodes];
  const becomes = [...fresh.childNodes];
  becomes.forEach((child, i) => (i < was.length ? morph(was[i], child) : old.append(document.importNode(child, true))));
  for (const child of was.slice(becomes.length)) child.remove();
}

// Not `.id`: that of a form is its field with the name "id", where it has one.
const idOf = (node) => node.getAttribute?.("id");

function attributes(old, fresh) {
  const kept = old.nodeName === "DETAILS" ? ["open"] : [];
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (!kept.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
}

export function parse(html) {
  return new DOMParser().parseFromString(html, "text/html");
}
