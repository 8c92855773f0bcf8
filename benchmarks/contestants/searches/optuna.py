"""Optuna's TPE with its defaults: ten random candidates first."""

import optuna


def run(fun, box, budget, seed):
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        x = []
        for i, (low, high, kind) in enumerate(zip(*box, strict=True)):
            if kind == "k":
                x.append(trial.suggest_categorical(str(i), range(int(high) + 1)))
            elif kind == "i":
                x.append(trial.suggest_int(str(i), int(low), int(high)))
            else:
                x.append(trial.suggest_float(str(i), low, high))
        return fun(x)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=budget)
    return list(study.best_trial.params.values())
