// Lists whose lines can be chosen: one box for all of a page, how many are chosen, and buttons that wait until some are.
// Without JavaScript the boxes and the buttons work as they are.

function adopt(form) {
  const boxes = [...form.querySelectorAll("input[name=id]")];
  const head = form.querySelector("thead .tick");
  const buttons = [...form.querySelectorAll("[data-chosen]")];
  if (!boxes.length || !head || form.dataset.adopted) return;
  form.dataset.adopted = "yes";
  const all = Object.assign(document.createElement("input"), { type: "checkbox", ariaLabel: "Choose all on this page" });
  const told = document.createElement("output");
  head.append(all);
  form.querySelector(".chosen-bar")?.prepend(told);

  function say() {
    const chosen = boxes.filter((box) => box.checked).length;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
    told.textContent = `${chosen} chosen`;
    for (const button of buttons) button.disabled = !chosen;
  }

  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    say();
  });
  form.addEventListener("change", say);
  say();
}

const adoptAll = () => document.querySelectorAll("form.choose").forEach(adopt);
new MutationObserver(adoptAll).observe(document.body, { childList: true }); // the page refreshed itself
addEventListener("pageshow", adoptAll);
adoptAll();
