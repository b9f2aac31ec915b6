// A link to a section unfolds it, all of them unfold for paper, and a table that scrolls can be reached by keyboard.
const sections = document.querySelectorAll("details.section");
const unfold = () => { const at = document.getElementById(location.hash.slice(1)); if (at?.open === false) at.open = true; };
addEventListener("hashchange", unfold);
document.querySelector("nav")?.addEventListener("click", () => setTimeout(unfold));
unfold();
const all = document.querySelector("#all");
if (all) {
  all.hidden = false;
  all.addEventListener("click", () => {
    const open = [...sections].some(each => !each.open);
    for (const each of sections) each.open = open;
    all.textContent = open ? "Fold all" : "Unfold all";
  });
}
addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
const scrolling = new ResizeObserver(all => {
  for (const {target} of all) {
    if (target.scrollWidth > target.clientWidth + 1) target.tabIndex = 0; else target.removeAttribute("tabindex");
  }
});
for (const each of document.querySelectorAll(".scroll")) scrolling.observe(each);
