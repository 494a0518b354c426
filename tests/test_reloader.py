"""Story one, end to end: a process that watches its own files."""

from __future__ import annotations


def test_a_save_restarts_the_program(loop_app):
    loop_app.write("helper.py", "VALUE = 2")
    assert loop_app.line("modified; restarting server") == (
        f"evreload: {loop_app.path('helper.py')} modified; restarting server"
    )
    loop_app.line("ready 2")


def test_a_save_in_place_restarts_the_program(loop_app):
    loop_app.write_in_place("helper.py", "VALUE = 2")
    loop_app.line("ready 2")


def test_code_that_does_not_compile_leaves_the_old_program_running(loop_app):
    loop_app.write("helper.py", "VALUE = (")
    line = loop_app.line("SyntaxError")
    assert line.startswith(f"evreload: {loop_app.path('helper.py')}:1: SyntaxError: ")
    assert line.endswith("; still running the previous version")
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("restarting server") == 1


def test_code_that_fails_at_import_is_reported_and_waited_for(loop_app):
    loop_app.write("helper.py", "VALUE = undefined")
    loop_app.line("NameError")
    loop_app.armed()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")


def test_the_second_of_two_quick_saves_of_one_length_runs(loop_app):
    for value in range(2, 10):
        loop_app.write("helper.py", f"VALUE = {value}")
        loop_app.line(f"ready {value}")


def test_a_save_counts_although_the_loop_ends_before_it_has_settled(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        """
        import asyncio, logging, os, sys
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
        import evreload
        import helper
        print("ready", helper.VALUE, flush=True)

        async def tests():
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # by now it has heard of the save, most likely

        evreload.start(debounce=1000)
        asyncio.run(tests())
        evreload.wait()
        """,
    )
    app.start("app.py")
    app.line("ready 1")
    app.armed()
    app.write("helper.py", "VALUE = 2")
    app.write("go")
    app.line("ready 2")


def test_a_restart_that_fails_is_told_of_at_once(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        """
        import asyncio, logging, sys
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
        import evreload
        import helper
        from evreload._watch.syntax_check import Broken

        async def fail(self, *_):
            raise RuntimeError("out of order")

        async def main():
            Broken.sound = fail
            evreload.start()
            await asyncio.Event().wait()

        asyncio.run(main())
        """,
    )
    app.start("app.py")
    app.armed()
    for value in (2, 3):
        app.write("helper.py", f"VALUE = {value}")
        app.line("cannot restart; still running the previous version")
        app.line("RuntimeError: out of order")


def test_a_path_that_is_watched_time_and_again_is_kept_once(app):
    program = """
    import evreload
    for n in range(1000):
        evreload.watch(f"file{n % 3}")
    print("wants", len(evreload._story()._asked))
    """
    app.write("app.py", program)
    app.start("app.py")
    assert app.line("wants") == "wants 3"
