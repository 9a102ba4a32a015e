#!/usr/bin/env python3
"""Plants a violation of each rule of dependencies.py, and expects it to be found; and things that are allowed, and expects silence."""

import shutil
import tempfile
import unittest
from pathlib import Path

import dependencies
from rust_uses import Crate, circles

HOME = Path(__file__).resolve().parent.parent


class Planted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)

    def crate(self, **files: str) -> Crate:
        """A crate of these files; `a__b` is a/b.rs."""
        for name, text in files.items():
            file = self.base / "src" / (name.replace("__", "/") + ".rs")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Crate(self.base / "src" / "lib.rs")

    def circles(self, **files: str) -> list[list[str]]:
        return [[file.stem for file in group] for group in circles(self.crate(**files).arrows())]

    def service(self, name: str, file: str, text: str) -> list[str]:
        """What is found when `text` is added to a file of a service as it is."""
        shutil.copytree(HOME / name / "src", self.base / name / "src")
        with (self.base / name / "src" / file).open("a") as planted:
            planted.write(text)
        crate = Crate(self.base / name / "src" / "lib.rs")
        return dependencies.module_faults(name, crate, self.base, set()) + dependencies.circle_faults(crate, self.base, set())


class Circles(Planted):
    def test_two_files(self):
        found = self.circles(lib="mod a; mod b;", a="use crate::b::B; pub struct A(B);", b="use super::a; pub struct B; fn f(_: a::A) {}")
        self.assertEqual(found, [["a", "b"]])

    def test_three_files_by_paths_in_code(self):
        found = self.circles(
            lib="mod a; mod b; mod c; mod d;",
            a="pub fn f() { crate::b::f() }",
            b="pub fn f() { super::c::f::<u8>() }",
            c="pub fn f<T>() { if true { use crate::a; a::f() } }",
            d="pub fn f() { crate::a::f() }",
        )
        self.assertEqual(found, [["a", "b", "c"]])

    def test_by_a_reexport(self):
        # `b` names what the parent re-exports from `a`: it uses `a`, not the parent.
        found = self.circles(lib="mod a; mod b; pub use a::A;", a="use crate::b::B; pub struct A(B);", b="pub struct B; fn f(_: super::A) {}")
        self.assertEqual(found, [["a", "b"]])

    def test_by_a_glob(self):
        found = self.circles(lib="mod a; mod b;", a="use crate::b::*; pub struct A(B);", b="pub struct B; fn f(_: crate::a::A) {}")
        self.assertEqual(found, [["a", "b"]])

    def test_across_folders(self):
        found = self.circles(
            lib="mod a; mod b;", a__mod="mod x; pub use x::X;", a__x="use crate::b::y::Y; pub struct X(Y);", b__mod="pub mod y;",
            b__y="pub struct Y; fn f(_: crate::a::X) {}",
        )  # fmt: skip
        self.assertEqual(found, [["x", "y"]])

    def test_a_parent_composes_its_children(self):
        found = self.circles(lib="mod a;", a__mod="mod x; pub use x::X; pub struct Of; fn f() { x::f(Of) }", a__x="pub struct X; pub fn f(_: super::Of) {}")
        self.assertEqual(found, [])

    def test_tests_texts_and_comments_do_not_count(self):
        found = self.circles(
            lib="mod a; mod b;",
            a="use crate::b::B; pub struct A(B);",
            b='''pub struct B;
            // crate::a::A, /* crate::a::A */
            /* crate::a::A /* in another */ crate::a::A */
            const T: (&str, &str, char) = ("crate::a::A \\" crate::a::A", r#"" crate::a::A"#, '"');
            fn life<'a>(_: &'a B) {}
            #[cfg(test)] mod tests { use crate::a::A; }
            #[cfg(test)] use crate::a::A;
            #[cfg(all(test, unix))] fn f(_: crate::a::A) {}
            ''',
        )
        self.assertEqual(found, [])

    def test_a_name_that_is_also_its_crate(self):
        found = self.crate(lib="mod a;", a="use async_trait::async_trait; #[async_trait] pub trait A {}")
        self.assertEqual(([use.crate for use in found.externals()], found.arrows()), (["async_trait"], []))

    def test_what_is_not_for_tests_counts(self):
        found = self.circles(lib="mod a; mod b;", a="use crate::b::B; pub struct A(B);", b="pub struct B; #[cfg(not(test))] fn f(_: crate::a::A) {}")
        self.assertEqual(found, [["a", "b"]])


class Directions(Planted):
    def test_an_upward_use(self):
        for name, file, text, words in [
            ("gateway-svc", "domain/labels.rs", "use crate::calls::Calls;", "`domain` must not use `calls`"),
            ("gateway-svc", "upstream/limits.rs", "fn f(_: crate::mcp::Mcp) {}", "`upstream` must not use `mcp`"),
            ("registry-svc", "domain/field_mask.rs", "use crate::store::Db;", "`domain` must not use `store`"),
            ("credential-svc", "store/mod.rs", "use crate::api;", "`store` must not use `api`"),
            ("orchestrator-svc", "domain/package.rs", "use crate::runtime;", "`domain` must not use `runtime`"),
        ]:
            with self.subTest(name=name, file=file):
                found = self.service(name, file, text)
                self.assertTrue(any(file in fault and words in fault for fault in found), found)
                shutil.rmtree(self.base / name)

    def test_a_database_in_a_domain(self):
        for text in ["use sqlx::Row as _;", "fn f() { sqlx::query(\"\"); }"]:
            with self.subTest(text=text):
                found = self.service("credential-svc", "domain/plan.rs", text)
                self.assertTrue(any("`domain` must not use the crate sqlx" in fault for fault in found), found)
                shutil.rmtree(self.base / "credential-svc")

    def test_a_circle_in_a_service(self):
        found = self.service("gateway-svc", "route/names.rs", "use super::table::Table;")
        self.assertTrue(any(fault.startswith("a circle of 2 files") and "route/names.rs" in fault for fault in found), found)

    def test_a_new_module(self):
        found = self.service("gateway-svc", "lib.rs", "mod other { }")
        self.assertIn("gateway-svc: say in .ci/dependencies.py what `other` may use", found)

    def test_the_rules_have_no_circle(self):
        for name, modules in dependencies.MODULES.items():
            with self.subTest(name=name):
                left = {module: set(uses) - {dependencies.ALL} for module, uses in modules.items()}
                while lowest := {module for module, uses in left.items() if not uses & left.keys()}:
                    left = {module: uses for module, uses in left.items() if module not in lowest}
                self.assertEqual(left, {})

    def test_a_dependency_of_crates(self):
        def found(name: str, other: str, kind: str | None = None) -> list[str]:
            return dependencies.crate_faults({name: {"dependencies": [{"name": other, "kind": kind}]}, other: {"dependencies": []}})

        self.assertEqual(found("gateway-svc", "registry-svc"), ["gateway-svc must not depend on registry-svc"])
        self.assertEqual(found("gateway-svc", "registry-svc", "dev"), ["gateway-svc must not depend on registry-svc"])
        self.assertEqual(found("service-kit", "contracts", "dev"), [])
        self.assertIn("new: say in .ci/dependencies.py what it may depend on", found("new", "contracts"))


if __name__ == "__main__":
    unittest.main()
