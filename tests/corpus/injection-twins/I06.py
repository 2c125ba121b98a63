import pickle

def load_session(cookie):
    return pickle.loads(cookie)
