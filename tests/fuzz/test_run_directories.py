from fuzz.run_directories import main


def test_damaged_run_directories_end_in_a_line_and_nothing_else(capsys):
    code = main(["--seconds", "2", "--seed", "0"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "refused" in said
